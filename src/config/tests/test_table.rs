//! `[test]`: what it says, and what of it is refused.

use std::time::Duration;

use super::*;

const KERNEL: &str = "[kernel]\nkernel_path = \"vmlinuz\"\n";

#[track_caller]
fn tested(text: &str) -> TestConfig {
    let dir = files();
    let path = dir.path().join("guest.toml");
    fs::write(&path, text).unwrap();
    match load_tested(&path, &[], &Kinds::new()) {
        Ok(tested) => tested.test,
        Err(error) => panic!("{error}"),
    }
}

/// The names of a guest's tests, and what each sets.
fn variants(matrix: &str) -> Vec<(String, Vec<String>)> {
    let text = format!("{KERNEL}cmdline = \"quiet\"\n[test.matrix]\n{matrix}\n");
    let texts = |sets: Vec<Setting>| sets.into_iter().map(|set| set.text).collect();
    tested(&text).variants.into_iter().map(|it| (it.name, texts(it.sets))).collect()
}

#[test]
fn without_a_table_a_guest_has_a_minute_to_shut_down() {
    let test = tested(KERNEL);
    assert_eq!((test.status, test.timeout, test.reboots), (Some(0), Duration::from_secs(60), 0));
    assert_eq!(test.variants, [Variant::default()]);
    assert!(test.expect.is_empty() && test.forbid.is_empty() && test.answers.is_empty());
}

#[test]
fn all_that_is_written_is_kept() {
    let test = tested(&format!(
        "{KERNEL}[test]\nexpect = ['^boot', 'ok$']\nforbid = 'panicked at'\nstatus = 43\n\
         timeout = \"1.5s\"\nreboots = 2\n\
         answers = [['login: $', \"root\\n\"], {{ prompt = '#', keys = 'halt' }}]\n"
    ));
    let texts = |it: &[Pattern]| it.iter().map(|it| it.0.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(&test.expect), ["^boot", "ok$"]);
    assert_eq!(texts(&test.forbid), ["panicked at"]);
    assert_eq!((test.status, test.timeout.as_millis(), test.reboots), (Some(43), 1500, 2));
    let answers: Vec<_> =
        test.answers.iter().map(|it| (it.prompt.0.as_str(), it.keys.as_str())).collect();
    assert_eq!(answers, [("login: $", "root\n"), ("#", "halt")]);
    assert_eq!(test.at.unwrap().line, Some(3));
    let stopped = tested(&format!("{KERNEL}[test]\nexpect = 'ok'\nstop = true\ntimeout = 5\n"));
    assert_eq!((stopped.status, stopped.timeout.as_secs()), (None, 5));
}

#[test]
fn a_matrix_is_all_combinations_of_its_lists() {
    let found = variants("cpu_num = [1, 2]\nmemory = [\"1G\", 1048576]");
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "cpu_num=1 memory=1G",
        "cpu_num=1 memory=1M",
        "cpu_num=2 memory=1G",
        "cpu_num=2 memory=1M",
    ];
    assert_eq!(names, expected);
    assert_eq!(found[2].1, ["base.cpu_num=2", "base.memory=1073741824"]);
    let sets = |matrix| variants(matrix).into_iter().map(|(_, sets)| sets[0].clone());
    let cmdlines: Vec<_> = sets("cmdline = ['a b', '\"']").collect();
    assert_eq!(cmdlines, ["kernel.cmdline=\"a b\"", "kernel.cmdline='\"'"]);
    let arguments: Vec<_> = sets("arguments = ['', 'x']").collect();
    assert_eq!(arguments, ["kernel.cmdline=\"quiet\"", "kernel.cmdline=\"quiet x\""]);
}

/// Each: the lines of the table, where the problem is, and words of what is said.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    let many: Vec<_> = (1..=101).map(|n| n.to_string()).collect();
    let many = format!("matrix = {{ cpu_num = [{0}], arguments = [{1}] }}", many.join(", "), {
        many.iter().map(|it| format!("'{it}'")).collect::<Vec<_>>().join(", ")
    });
    let cases: &[(&str, &str, &str)] = &[
        ("expect = 3", "4:10", "a regular expression"),
        ("expect = ['ok', '(']", "4:17", "test.expect[1]: this is no regular expression: unclosed"),
        ("forbid = ''", "4:10", "found in every line"),
        ("forbid = '(x{1000}){1000}'", "4:10", "no regular expression"),
        ("expct = 'ok'", "4:1", "did you mean \"expect\"?"),
        ("timeout = 0", "4:11", "more than 0"),
        ("timeout = \"0s\"", "4:11", "more than 0"),
        ("timeout = -1", "4:11", "not negative"),
        ("timeout = \"soon\"", "4:11", "a number and a unit"),
        ("status = 256", "4:10", "from 0 to 255"),
        ("stop = true", "4:8", "no line in expect"),
        ("expect = 'ok'\nstop = true\nstatus = 1", "6:10", "leave one of them out"),
        ("answers = [['#']]", "4:12", "this row has no keys"),
        ("reboots = -1", "4:11", "expected an integer"),
        ("matrix = {}", "4:10", "a matrix with no list"),
        ("matrix = { cpus = [1] }", "4:12", "unknown key \"cpus\""),
        ("matrix = { cpu_num = [] }", "4:22", "no test at all"),
        ("matrix = { cpu_num = [1, 1] }", "4:26", "1 is in the list twice"),
        ("matrix = { memory = ['lots'] }", "4:22", "no size"),
        ("matrix = { cmdline = ['a'], arguments = ['b'] }", "4:41", "leave one of them out"),
        (&many, "4:10", "this makes 10201 tests"),
    ];
    for (lines, place, said) in cases {
        let shown = problem(&format!("{KERNEL}[test]\n{lines}\n"));
        assert!(shown.starts_with(&format!("guest.toml:{place}: ")), "{place}: {shown}");
        assert!(shown.contains(said), "no {said:?} in {shown}");
    }
}

#[test]
fn a_value_of_the_matrix_that_the_guest_cannot_have_is_told_with_its_place() {
    let dir = files();
    let path = dir.path().join("guest.toml");
    fs::write(&path, format!("{KERNEL}[test.matrix]\narguments = [\"a\\u0001b\"]\n")).unwrap();
    let variant = load_tested(&path, &[], &Kinds::new()).unwrap().test.variants.remove(0);
    let place = variant.sets[0].option.clone().unwrap();
    assert!(place.ends_with("guest.toml:4:14"), "{place}");
}
