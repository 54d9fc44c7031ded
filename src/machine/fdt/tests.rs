use super::*;

fn tree() -> Tree {
    let memory = GuestPhysAddrRange::new(crate::addr::GuestPhysAddr(0x4000_0000), 0x1000).unwrap();
    let root = Node::new("")
        .texts("compatible", &["a,b", "c"])
        .flag("dma-coherent")
        .child(Node::at("memory", 0x4000_0000).text("device_type", "memory").reg(&[memory]))
        .child(Node::new("chosen").text("bootargs", "x").bytes("odd", vec![1, 2, 3]))
        .child(Node::new("cpus").child(Node::at("cpu", 0xa).cell("reg", 10)));
    Tree { reserved: vec![(0x1000, 0x2000)], boot_cpu: 3, root }
}

#[test]
fn a_tree_survives_being_written_and_read() {
    let blob = tree().to_blob().unwrap();
    assert_eq!(read(&blob).unwrap(), tree());
    let padded = [blob, vec![0xff; 100]].concat();
    assert_eq!(read(&padded).unwrap(), tree());
}

#[test]
fn nodes_are_found_with_and_without_their_address_and_properties_are_replaced() {
    let mut root = tree().root;
    assert!(root.find("memory").is_some_and(|node| node.is_of_type("memory")));
    assert!(root.find("memory@40000000").is_some() && root.find("mem").is_none());
    assert_eq!(root.find("memory").unwrap().get("reg").unwrap().len(), 16);
    let chosen = root.find_or_add("chosen");
    chosen.set("bootargs", b"y\0".to_vec());
    chosen.remove("odd");
    assert_eq!(chosen.properties, [("bootargs".into(), b"y\0".to_vec())]);
    root.find_or_add("new").set("x", vec![0, 0, 0, 1]);
    assert_eq!(root.find("new").unwrap().get_cell("x"), Some(1));
    assert_eq!(root.children.len(), 4);
}

#[test]
fn a_property_is_found_in_its_blob() {
    let blob = tree().to_blob().unwrap();
    let at = property(&blob, "chosen", "odd").unwrap().unwrap();
    assert_eq!(blob[at], [1, 2, 3]);
    assert_eq!(property(&blob, "chosen", "reg"), Ok(None));
    assert_eq!(property(&blob, "cpus", "odd"), Ok(None));
}

#[test]
fn what_is_no_tree_is_told_apart() {
    let blob = tree().to_blob().unwrap();
    let with = |at: usize, word: u32| {
        let mut bad = blob.clone();
        bad[at..at + 4].copy_from_slice(&word.to_be_bytes());
        read(&bad).unwrap_err()
    };
    assert_eq!(read(b"").unwrap_err(), ReadError::Truncated { has: 0, needs: 40 });
    assert_eq!(read(&blob[..39]).unwrap_err(), ReadError::Truncated { has: 39, needs: 40 });
    assert_eq!(read(b"/dts-v1/; / {};").unwrap_err(), ReadError::Magic { found: 0x2f64_7473 });
    let (has, needs) = (blob.len() - 1, blob.len());
    assert_eq!(read(&blob[..has]).unwrap_err(), ReadError::Truncated { has, needs });
    assert_eq!(with(4, u32::MAX), ReadError::Truncated { has: needs, needs: u32::MAX as usize });
    assert_eq!(with(20, 16), ReadError::Version { version: 16, compatible: 16 });
    assert_eq!(with(24, 18), ReadError::Version { version: 17, compatible: 18 });
    for (field, tells) in [(8, "structure"), (12, "strings"), (16, "reservation"), (32, "strings")]
    {
        let error = with(field, u32::MAX - 3);
        assert!(error.to_string().contains(tells), "{field}: {error}");
    }
}

#[test]
fn nodes_nested_too_deep_are_refused() {
    let mut node = Node::new("leaf");
    for _ in 0..62 {
        node = Node::new("n").child(node);
    }
    let deep = |node: Node| Tree { reserved: vec![], boot_cpu: 0, root: Node::new("").child(node) };
    let blob = deep(node.clone()).to_blob().unwrap();
    assert_eq!(read(&blob).unwrap(), deep(node));
    let token = |token: u32| token.to_be_bytes();
    let begin = [token(BEGIN_NODE_TOKEN), *b"n\0\0\0"].concat();
    let structure = [token(BEGIN_NODE_TOKEN), token(0)].concat();
    let structure =
        [structure, begin.repeat(100), token(2).repeat(101), token(9).to_vec()].concat();
    let size = structure.len() as u32;
    let header = [0xd00d_feed, 56 + size, 56, 56 + size, 40, 17, 16, 0, 0, size];
    let header: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
    let error = read(&[header, vec![0; 16], structure].concat()).unwrap_err();
    assert!(error.to_string().contains("too deep"), "{error}");
}

const BEGIN_NODE_TOKEN: u32 = 1;

#[test]
fn no_change_of_a_byte_does_harm() {
    let blob = tree().to_blob().unwrap();
    for at in 0..blob.len() {
        for value in [0, 1, 2, 3, 4, 9, 0x40, 0x7f, 0x80, 0xff] {
            let mut bad = blob.clone();
            bad[at] = value;
            // Whatever it is: an answer, and one that can be written again if it is a tree.
            if let Ok(tree) = read(&bad) {
                let _ = tree.to_blob();
            }
            let _ = property(&bad, "chosen", "odd");
        }
        let _ = read(&blob[..at]);
    }
}
