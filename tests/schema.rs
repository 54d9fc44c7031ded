//! `axvmm schema`, by a validator of others: what axvmm reads is valid, and what it refuses for a
//! key or the kind of a value is not.

mod common;

use std::{fs, process::Command};

use common::{axvmm, root, run};

/// Those of some texts that a validator says to be wrong by the schema that axvmm prints.
#[track_caller]
fn wrong(texts: &[String]) -> Vec<&String> {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    fs::write(&schema, &run(axvmm().arg("schema")).assert(0, "\"$schema\"").stdout).unwrap();
    let mut validator = Command::new("python3");
    validator.args(["-W", "ignore", "-m", "jsonschema", "--output", "pretty"]);
    for (index, text) in texts.iter().enumerate() {
        let value: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let instance = dir.path().join(format!("{index}.json"));
        fs::write(&instance, serde_json::to_string(&value).unwrap()).unwrap();
        validator.arg("-i").arg(instance);
    }
    let ended = validator.arg(&schema).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(!told.contains("Traceback"), "{told}");
    let is_right =
        |index| told.contains(&format!("===[SUCCESS]===({}/{index}.json)", dir.path().display()));
    (0..).zip(texts).filter(|(index, _)| !is_right(*index)).map(|(_, text)| text).collect()
}

#[test]
fn all_configurations_and_what_init_writes_are_valid() {
    let entries = fs::read_dir(root().join("configs")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut texts: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(texts.len() > 10);
    texts.push(run(axvmm().args(["init", "-o", "-"])).stdout);
    texts.push(
        "[base]\nmemory = \"2 GiB\"\n[kernel]\nmodules = [\"a b\", {path = \"c\"}]\n
        [[devices.virtio]]\nkind = \"block\"\npath = \"disk\"\nformat = \"qcow2\"\nreadonly = true
        [[devices.virtio]]\nkind = \"vhost-user\"\nsocket = \"s\"\n
        [[devices.custom]]\nkind = \"mine\"\nat = 0xd000_0000\nof_its_own = [1, \"x\"]
        [[devices.fault]]\ndevice = \"com1\"\nat = [0x3f8, 0x3f9]\naction = \"fail\"\nnth = 3
        [test]\nexpect = '^a+$'\nforbid = ['x', 'y']\ntimeout = 30\nreboots = 1
        answers = [['a', 'b'], {prompt = 'c', keys = 'd'}]
        matrix = {cpu_num = [1, 2], memory = ['1G', 4096]}"
            .to_owned(),
    );
    assert_eq!(wrong(&texts), Vec::<&String>::new());
}

#[test]
fn what_axvmm_refuses_is_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    let guest = dir.path().join("guest.toml");
    let texts = [
        "[bse]",
        "[base]\ncpus = 1",
        "[base]\ncpu_num = 0",
        "[base]\ncpu_num = 1000",
        "[base]\nid = -1",
        "[base]\nname = 1",
        "[base]\nmemory = \"lots\"",
        "[base]\nlazy_memory = \"yes\"",
        "[kernel]\nmemory_regions = [[1]]",
        "[kernel]\nmemory_regions = [{gpa = 0}]",
        "[kernel]\nmemory_regions = [[0, 4096, 7, 0, 0]]",
        "[kernel]\nunpack = \"never\"",
        "[kernel]\ndtb_patch = \"memory\"",
        "[devices]\ndebug_exit = \"0xf4\"",
        "[[devices.virtio]]\npath = \"disk\"",
        "[[devices.virtio]]\nkind = \"disk\"",
        "[[devices.virtio]]\nkind = \"rng\"\npath = \"disk\"",
        "[[devices.custom]]\nkind = 1",
        "[[devices.fault]]\ndevice = \"com1\"\naction = \"explode\"",
        "[test]\nexpected = 'a'",
        "[test]\nexpect = 1",
        "[test]\nforbid = ''",
        "[test]\nstatus = 256",
        "[test]\ntimeout = \"soon\"",
        "[test]\nanswers = [['a']]",
        "[test]\nmatrix = {cpu_num = [0]}",
    ];
    for text in texts {
        fs::write(&guest, text).unwrap();
        run(axvmm().args(["check", "--config"]).arg(&guest)).assert(35, "");
    }
    let texts = texts.map(str::to_owned);
    assert_eq!(wrong(&texts), texts.iter().collect::<Vec<_>>());
}
