use super::*;
use crate::{cli::test::lines::Lines, config::load_tested, devices::custom::Kinds};

/// What `[test]` says with these lines.
fn test(lines: &str) -> TestConfig {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guest.toml");
    std::fs::write(dir.path().join("kernel"), "a kernel").unwrap();
    let text = format!("[kernel]\nkernel_path = \"kernel\"\n[test]\n{lines}\n");
    std::fs::write(&file, text).unwrap();
    load_tested(&file, &[], &Kinds::new()).unwrap().test
}

fn end(status: i32, reason: &str) -> End {
    End { status, reason: reason.into(), message: "so it says".into(), cut: None }
}

/// The verdict on a console in pieces, and all that was to be done on the way.
fn judged(lines: &str, console: &[&str], end: &End) -> (Verdict, Vec<Act>) {
    let test = test(lines);
    let (mut judge, mut from, mut acts) = (Judge::new(&test), Lines::default(), Vec::new());
    for piece in console {
        from.take(piece.as_bytes(), |heard| acts.extend(judge.hear(&heard)));
    }
    let rest = from.finish().map(Heard::Line);
    acts.extend(rest.into_iter().flat_map(|heard| judge.hear(&heard)));
    (judge.verdict(end), acts)
}

#[track_caller]
fn passes(lines: &str, console: &str, end: &End) {
    assert_eq!(judged(lines, &[console], end).0, Verdict::Passed);
}

/// The kinds of the reasons, and the first one's text.
#[track_caller]
fn fails(lines: &str, console: &str, end: &End) -> (Vec<&'static str>, String) {
    match judged(lines, &[console], end).0 {
        Verdict::Failed(reasons) => {
            (reasons.iter().map(|it| it.kind).collect(), reasons[0].text.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_must_come_in_their_order() {
    let lines = "expect = ['^a', 'b$']";
    passes(lines, "x\nab\nxb\n", &end(0, "shutdown"));
    let (kinds, text) = fails(lines, "b\nab\n", &end(0, "shutdown"));
    assert_eq!(kinds, ["missing-line"]);
    assert_eq!(text, "no line with \"b$\" (2 of 2) came after that with \"^a\"");
}

#[test]
fn the_last_line_need_not_be_ended() {
    passes("expect = 'login: $'", "x\nlogin: ", &end(0, "shutdown"));
    assert_eq!(fails("forbid = 'oops'", "x\noops", &end(0, "shutdown")).0, ["forbidden-line"]);
}

#[test]
fn a_line_that_must_not_come_is_told_with_its_number() {
    let (kinds, text) = fails("forbid = ['Oops', 'panic']", "a\npanic: b\n", &end(34, "panic"));
    assert_eq!(kinds, ["forbidden-line", "status"]);
    assert_eq!(text, "line 2 has \"panic\", which must not come: panic: b");
}

#[test]
fn the_status_must_be_the_one_wanted() {
    passes("status = 43", "", &end(43, "test-exit"));
    passes("status = 124", "", &end(124, "timeout"));
    let (kinds, text) = fails("", "", &end(33, "fault"));
    assert_eq!(
        (kinds, text.as_str()),
        (vec!["status"], "it ended with status 33, not 0: so it says")
    );
    let (kinds, text) = fails("timeout = 2", "", &end(124, "timeout"));
    assert_eq!((kinds, text.as_str()), (vec!["timeout"], "it did not end within 2s"));
}

#[test]
fn what_axvmm_fails_at_is_no_status_that_a_guest_has() {
    for reason in ["config", "host", "failed", ""] {
        assert_eq!(fails("status = 35", "", &end(35, reason)).0, ["axvmm"], "{reason}");
    }
    let hung = End { cut: Some(Cut::Hung), ..end(137, "") };
    assert_eq!(fails("status = 137", "", &hung).0, ["axvmm"]);
}

#[test]
fn prompts_are_answered_in_their_order_whatever_the_pieces() {
    let lines = "answers = [['login: $', \"root\\n\"], ['# $', \"halt\\n\"]]";
    let types = |keys: &str| Act::Type(keys.into());
    let whole = ["x\nlogin: ", "root\r\n# ", "halt\r\n"];
    let bytes: Vec<_> = whole.concat().chars().map(String::from).collect();
    let bytes: Vec<_> = bytes.iter().map(String::as_str).collect();
    for console in [&whole[..], &bytes] {
        let (verdict, acts) = judged(lines, console, &end(0, "shutdown"));
        assert_eq!((verdict, acts), (Verdict::Passed, vec![types("root\n"), types("halt\n")]));
    }
    let (kinds, text) = fails(lines, "login: \n", &end(0, "shutdown"));
    assert_eq!((kinds[0], text.as_str()), ("no-prompt", "the prompt \"# $\" did not come"));
}

#[test]
fn a_prompt_is_found_once_where_it_stands() {
    let twice = "answers = [['> $', 'a'], ['> $', 'b']]";
    let (_, acts) = judged(twice, &["> ", "a\n", "> "], &end(0, "shutdown"));
    assert_eq!(acts.len(), 2);
    let (_, acts) = judged("answers = [['>', 'a'], ['>', 'b']]", &["> "], &end(0, "shutdown"));
    assert_eq!(acts, [Act::Type("a".into())]);
    let (_, acts) = judged("answers = [['x*', 'a'], ['$', 'b']]", &["ä"], &end(0, "shutdown"));
    assert_eq!(acts.len(), 1, "nothing is not found twice in a place");
}

#[test]
fn a_guest_is_stopped_when_all_has_come() {
    let lines = "expect = ['a', 'login: ']\nstop = true";
    let stopped = End { cut: Some(Cut::Enough), ..end(143, "signal") };
    let (verdict, acts) = judged(lines, &["a\n", "login: "], &stopped);
    assert_eq!(verdict, Verdict::Passed);
    assert!(acts.contains(&Act::Stop), "{acts:?}");
    passes(lines, "a\nlogin: \n", &end(124, "timeout"));
    assert_eq!(fails(lines, "a\n", &end(0, "shutdown")).0, ["status", "missing-line"]);
    assert_eq!(fails(lines, "a\n", &end(124, "timeout")).0, ["timeout", "missing-line"]);
}

#[test]
fn a_line_that_goes_on_does_not_pass_for_what_it_is_not() {
    let stops = |expect: &str, begun: &str| {
        let test = test(&format!("expect = '{expect}'\nstop = true"));
        !Judge::new(&test).hear(&Heard::Begun(begun.into())).is_empty()
    };
    assert!(!stops("^5 passed$", "5 passed"), "it may go on with: , 3 failed");
    assert!(!stops(r"ok\b", "ok"), "it may become: okay");
    assert!(stops("5 passed", "5 passed"));
}

#[test]
fn one_line_is_one_of_those_wanted() {
    let (verdict, _) = judged("expect = ['a', 'a']", &["a", "aa\n"], &end(0, "shutdown"));
    assert!(matches!(verdict, Verdict::Failed(_)), "{verdict:?}");
}

#[test]
fn a_run_that_is_cancelled_has_no_verdict_but_what_was_seen() {
    let cancelled = End { cut: Some(Cut::Cancelled), ..end(143, "signal") };
    assert_eq!(judged("expect = 'a'", &[], &cancelled).0, Verdict::Cancelled);
    assert_eq!(fails("forbid = 'a'", "a\n", &cancelled).0[0], "forbidden-line");
}
