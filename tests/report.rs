//! `axvmm report`, through the binary and in a browser, of what Linux' drivers did
//! (`tests/recordings`). No guest runs, and no KVM is needed.

#[path = "report/browser.rs"]
mod browser;
mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use browser::Browser;
use common::{axvmm, root, run};
use flate2::read::GzDecoder;

/// What must not be in a page of whatever recording.
const MOST_BYTES: usize = 300 << 10;

/// The recording of Linux on a board, unpacked in `dir`.
fn linux(dir: &Path, name: &str) -> PathBuf {
    let packed = root().join(format!("tests/recordings/linux-{name}.axt.gz"));
    let file = dir.join(format!("{name}.axt"));
    let mut packed = GzDecoder::new(File::open(packed).unwrap());
    io::copy(&mut packed, &mut File::create(&file).unwrap()).unwrap();
    file
}

#[track_caller]
fn report(file: &Path, options: &[&str]) -> String {
    let ended = run(axvmm().arg("report").arg(file).args(options).args(["-o", "-"]));
    ended.assert(0, "").assert_tells(&[]);
    ended.stdout
}

/// The rows of `trace stats` by what begins them: exits, milliseconds, p50, p99, longest.
fn stats(file: &Path) -> BTreeMap<String, Vec<String>> {
    let ended = run(axvmm().args(["trace", "stats"]).arg(file));
    ended.assert(0, "");
    let tables = ended.stdout.split("\n\n").skip(1).take(2);
    let rows = tables.flat_map(|table| table.lines().skip(1)).map(|row| {
        let mut words = row.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.collect())
    });
    rows.collect()
}

/// The value of the `data` with this id.
fn data(page: &str, id: &str) -> u64 {
    let after = page.split(&format!("<data id=\"{id}\" value=\"")).nth(1);
    after.unwrap_or_else(|| panic!("no {id}")).split('"').next().unwrap().parse().unwrap()
}

#[test]
fn pages_of_linux_tell_what_its_drivers_did() {
    let dir = tempfile::tempdir().unwrap();
    for (name, serial, told) in [
        (
            "x86_64",
            "com1",
            &["LSR <span", "RBR/THR <span", "com1", "SLEEP_CONTROL", "com1 prints"][..],
        ),
        ("aarch64", "pl011", &["UARTFR <span", "UARTDR <span", "pl011 prints", "RTCDR", "gpio"]),
        (
            "riscv64",
            "serial",
            &["Claim/Complete[0]", "Enable[0]", "serial prints", "sifive-test 0x100000 Finisher"],
        ),
        ("riscv64-aia", "serial", &["LSR <span", "sifive-test 0x100000 Finisher"]),
    ] {
        let file = linux(dir.path(), name);
        let page = report(&file, &[]);
        assert!(page.len() < MOST_BYTES, "{name}: {}", page.len());
        assert_eq!(page, report(&file, &[]), "the same each time");
        for told in told.iter().chain(&["machine started", "<h1>debian</h1>", "axvmm-guest: ready"])
        {
            assert!(page.contains(told), "{name}: {told}");
        }
        for asks in ["http:", "https:", "src=", "url(", "@import", "<link", "<img"] {
            assert!(!page.contains(asks), "{name}: {asks}");
        }
        assert_eq!(data(&page, "lines"), 9);
        let ended = run(axvmm().args(["trace", "stats"]).arg(&file));
        let exits: u64 = ended.stdout.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(data(&page, "exits"), exits);
        let part = report(&file, &["--device", serial]);
        let filter = format!("of which only <code>--device {serial}</code>");
        assert!(data(&part, "exits") < exits && part.contains(&filter));
    }
}

#[test]
fn a_page_is_written_beside_its_recording_and_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = linux(dir.path(), "x86_64");
    let page = dir.path().join("x86_64.html");
    fs::write(&page, "old").unwrap();
    let before = File::open(&page).unwrap();
    run(axvmm().arg("report").arg(&file)).assert(0, "").assert_tells(&[]);
    assert_eq!(fs::read_to_string(&page).unwrap(), report(&file, &[]));
    assert_eq!(io::read_to_string(before).unwrap(), "old", "who had opened it has what was there");
    let other = dir.path().join("other.html");
    run(axvmm().arg("report").arg(&file).arg("-o").arg(&other)).assert(0, "");
    assert_eq!(fs::read(&other).unwrap(), fs::read(&page).unwrap());
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn what_cannot_be_is_told_as_trace_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = linux(dir.path(), "aarch64");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(&file).unwrap();
    let newer = put("newer", &whole);
    File::options().write(true).open(&newer).unwrap().write_all_at(&[99], 8).unwrap();
    let name = file.to_str().unwrap();
    for (recording, options, status, told) in [
        (dir.path().join("none"), &[][..], 35, "No such file"),
        (put("empty", b""), &[], 35, "is no recording of axvmm's"),
        (put("text", b"<html>no recording</html>"), &[], 35, "is no recording of axvmm's"),
        (newer, &[], 35, "is a recording of version 99"),
        (put("cut", &whole[..70_000]), &[], 1, "failed to fill whole buffer"),
        (file.clone(), &["-o", name], 35, "this is the recording that is read"),
        (file.clone(), &["-o", "/nowhere/page.html"], 1, "write /nowhere/page.html"),
        (file.clone(), &["--device", "nothing"], 35, "--device nothing: the recording has"),
    ] {
        let mut command = axvmm();
        run(command.arg("report").arg(&recording).args(options))
            .assert(status, "")
            .assert_tells(&[told]);
        if !recording.ends_with("aarch64.axt") {
            let mut command = axvmm();
            run(command.args(["trace", "stats"]).arg(&recording)).assert(status, "");
        }
        assert!(!recording.with_extension("html").exists(), "{recording:?}");
    }
    // Cut where nothing is yet: a recording of no exits.
    let none = put("begun.axt", &whole[..60_000]);
    assert!(report(&none, &[]).contains("There is no exit in this recording"));
}

#[test]
fn in_a_browser_it_fits_every_screen_asks_nobody_and_tells_the_figures_of_stats() {
    let dir = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(dir.path());
    for name in ["x86_64", "riscv64"] {
        let file = linux(dir.path(), name);
        run(axvmm().arg("report").arg(&file)).assert(0, "");
        let page = file.with_extension("html");
        let mut grounds = Vec::new();
        for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            let events = browser.open(&page, width, scheme);
            let wrong = events.iter().filter(|it| {
                let requested = &it["params"]["request"]["url"];
                let is_other = requested.as_str().is_some_and(|it| !it.ends_with(".html"));
                let method = it["method"].as_str().unwrap_or_default();
                let tells =
                    ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];
                is_other || tells.contains(&method)
            });
            assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
            browser.value("document.querySelectorAll('details').forEach(it => it.open = true)");
            let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]");
            assert_eq!(widths, serde_json::json!([width, width]), "{name} {scheme}");
            let ground = "getComputedStyle(document.body).backgroundColor";
            grounds.push(browser.value(ground).as_str().unwrap().to_owned());
            let picture = browser.picture();
            if let Some(to) = std::env::var_os("AXVMM_PICTURES") {
                let path = Path::new(&to).join(format!("{name}-{width}-{scheme}.base64"));
                fs::write(path, picture).unwrap();
            }
        }
        assert!(grounds[0] == grounds[2] && grounds[1] == grounds[3] && grounds[0] != grounds[1]);
        let rows = "Object.fromEntries([...document.querySelectorAll('.times tbody tr')].map(row => \
                    [row.dataset.name, [...row.querySelectorAll('data')].map(it => +it.value)]))";
        let told: BTreeMap<String, [u64; 5]> = serde_json::from_value(browser.value(rows)).unwrap();
        let as_stats = |[exits, sum, p50, p99, most]: [u64; 5]| {
            let milliseconds = format!("{:.3}", sum as f64 / 1e6);
            let [exits, p50, p99, most] = [exits, p50, p99, most].map(|it| it.to_string());
            vec![exits, milliseconds, p50, p99, most]
        };
        let told = told.into_iter().map(|(name, it)| (name, as_stats(it)));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), stats(&file), "{name}");
        // Hovering, and choosing one kind.
        let hovered = "(() => { \
            const bin = document.querySelector('#by-reason .bins rect'); \
            bin.dispatchEvent(new PointerEvent('pointermove', { bubbles: true })); \
            document.querySelector('#by-reason .legend li').click(); \
            return [document.querySelector('#by-reason .readout').textContent === bin.textContent, \
                    bin.textContent.length > 5, document.querySelectorAll('path.dim').length > 0]; })()";
        assert_eq!(browser.value(hovered), serde_json::json!([true, true, true]));
    }
}
