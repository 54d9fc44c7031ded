use std::{
    io::Read,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use nix::sys::eventfd::EfdFlags;

use super::*;

const NAME: &str = "test-sink";

fn settings(patience: Duration, report: fn(Trouble)) -> Settings {
    Settings { name: NAME, patience, report }
}

fn quiet(_: Trouble) {}

fn drained(sink: &Sink) {
    let done = Arc::new(EventFd::new().unwrap());
    sink.drain(done.clone());
    done.read().unwrap();
}

#[test]
fn bytes_come_out_in_order_and_unaltered() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sink = Sink::new(ours, settings(Duration::from_secs(60), quiet));
    let all: Vec<u8> = (0..1_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let expect = all.clone();
    let reader = thread::spawn(move || {
        let mut got = vec![0; expect.len()];
        theirs.read_exact(&mut got).unwrap();
        assert!(got == expect);
    });
    let (bytes, chunks) = all.split_at(300_000);
    bytes.iter().for_each(|byte| assert_eq!(sink.put(&[*byte]), 0));
    chunks.chunks(100_000).for_each(|chunk| assert_eq!(sink.put(chunk), 0));
    drained(&sink);
    reader.join().unwrap();
    assert_eq!((sink.dropped(), sink.written()), (0, 1_000_000));
}

#[test]
fn a_reader_that_stalls_costs_one_wait_and_is_told_when_it_goes_on() {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    fn tell(trouble: Trouble) {
        if let Trouble::Dropped(n) = trouble {
            TOLD.fetch_add(n, Ordering::SeqCst);
        }
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sink = Sink::new(ours, settings(Duration::from_millis(100), tell));
    // More than ring, chunk in hand and socket hold.
    let start = Instant::now();
    for _ in 0..100_000 {
        sink.put(&[b'x'; 100]);
    }
    assert!(start.elapsed() < Duration::from_secs(30), "it waited for each");
    let dropped = sink.dropped();
    assert!(dropped > 0 && sink.waiting() >= RING as u64);
    let mut got = vec![0; 10_000_000 - dropped as usize];
    theirs.read_exact(&mut got).unwrap();
    drained(&sink);
    assert_eq!(TOLD.load(Ordering::SeqCst), dropped);
    sink.put(b"again");
    let mut again = [0; 5];
    theirs.read_exact(&mut again).unwrap();
    assert_eq!(&again, b"again");
}

#[test]
fn a_hurry_ends_a_wait() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let sink = Arc::new(Sink::new(ours, settings(Duration::from_secs(3600), quiet)));
    let writer = thread::spawn({
        let sink = sink.clone();
        move || sink.put(&vec![0; 10_000_000])
    });
    while sink.waiting() < RING as u64 {
        thread::yield_now();
    }
    sink.hurry();
    writer.join().unwrap();
    assert!(sink.dropped() > 0);
}

#[test]
fn a_reader_that_has_gone_is_told_once_and_costs_nothing() {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    fn tell(trouble: Trouble) {
        assert!(matches!(trouble, Trouble::Failed(_)), "{trouble:?}");
        TOLD.fetch_add(1, Ordering::SeqCst);
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let sink = Sink::new(ours, settings(Duration::from_secs(3600), tell));
    for _ in 0..10 {
        sink.put(&[0; 100_000]);
    }
    drained(&sink);
    assert_eq!((sink.dropped(), TOLD.load(Ordering::SeqCst)), (1_000_000, 1));
}

#[test]
fn without_bytes_there_is_no_thread_and_nothing_to_drain() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let sink = Sink::new(ours, settings(Duration::ZERO, quiet));
    let done = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
    sink.drain(done.clone());
    assert_eq!(done.read().unwrap(), 1);
    assert_eq!(sink.shared.lock().thread, Thread::NotYet);
}

#[test]
fn pieces_of_lines_are_whole_and_never_on_somebody_elses_line() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sink = Sink::new(ours, settings(Duration::from_secs(60), quiet));
    let [a, b] = [1, 2];
    let mut expect = String::new();
    for (author, piece, comes_out) in [
        (a, "one\n", "[1] one\n"),
        (a, "be", "[1] be"),
        (a, "gun", "gun"),
        (b, "two\n", "\n[2] two\n"),
        (a, "rest", "[1] rest"),
        (b, "", "\n[2] "),
        (b, "x", "x"),
    ] {
        assert!(sink.put_piece(author, format!("[{author}] ").as_bytes(), piece.as_bytes()));
        expect += comes_out;
    }
    assert!(sink.is_amid_line_of(b) && !sink.is_amid_line_of(a));
    sink.put_line(b"log\n");
    assert!(!sink.is_amid_line_of(b));
    sink.put_piece(b, b"[2] ", b"y\n");
    expect += "\nlog\n[2] y\n";
    drained(&sink);
    let mut got = vec![0; expect.len()];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expect);
}

#[test]
fn pieces_from_many_writers_are_not_mixed_while_a_slow_reader_makes_them_wait() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sink = Arc::new(Sink::new(ours, settings(Duration::from_secs(60), quiet)));
    let writers = [1, 2, 3].map(|author: usize| {
        let sink = sink.clone();
        thread::spawn(move || {
            let line = author.to_string().repeat(100 * author) + "\n";
            (0..3000).for_each(|_| assert!(sink.put_piece(author, b"> ", line.as_bytes())));
        })
    });
    let lengths: usize = [1, 2, 3].iter().map(|author| 3000 * (100 * author + 3)).sum();
    let mut got = vec![0; lengths];
    theirs.read_exact(&mut got).unwrap();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for line in String::from_utf8(got).unwrap().lines() {
        let text = line.strip_prefix("> ").unwrap();
        let author = text[..1].parse::<usize>().unwrap();
        assert_eq!(text, author.to_string().repeat(100 * author));
    }
    assert_eq!(sink.dropped(), 0);
}

#[test]
fn a_piece_that_has_no_room_is_dropped_whole() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let sink = Sink::new(ours, settings(Duration::from_millis(50), quiet));
    let piece = [b'x'; 999];
    let taken = (0..2000).filter(|_| sink.put_piece(1, b"", &piece)).count();
    assert_eq!(sink.dropped(), (2000 - taken as u64) * 999);
    assert!(taken > 60 && sink.dropped() > 0, "{taken}");
    drop(theirs);
}
