use super::*;

#[test]
fn branch_names_get_through_and_nothing_else_does() {
    let long = format!("feature/{}", "word-".repeat(30));
    let unbroken = format!("feature/{}", "x".repeat(90));
    for (answer, expected) in [
        ("feature/add-dark-mode\n", Ok("feature/add-dark-mode")),
        ("`fix/login-bug`", Ok("fix/login-bug")),
        ("\"Fix/Login-Bug\"", Ok("fix/login-bug")),
        ("```\nfix/login-bug\n```", Ok("fix/login-bug")),
        ("```text\nfix/login-bug\n```", Ok("fix/login-bug")),
        ("add-dark-mode", Ok("feature/add-dark-mode")),
        ("main", Ok("feature/main")),
        (
            &long,
            Ok("feature/word-word-word-word-word-word-word-word-word-word"),
        ),
        (&unbroken, Ok(&unbroken[..60])),
        ("", Err(AnswerFault::Empty)),
        ("``", Err(AnswerFault::Empty)),
        ("Here is a name: feature/x", Err(AnswerFault::NotAName)),
        ("feature/x\nfeature/y", Err(AnswerFault::SeveralLines)),
        ("feature/x\u{202e}y", Err(AnswerFault::NotAName)),
        ("feature/\x1b[31mred", Err(AnswerFault::NotAName)),
        ("../x", Err(AnswerFault::NotAName)),
        ("feature/a..b", Err(AnswerFault::NotAName)),
        ("feature/a.lock", Err(AnswerFault::NotAName)),
        ("-x/y", Err(AnswerFault::NotAName)),
        ("feature/--upload-pack=x", Err(AnswerFault::NotAName)),
        ("refs/heads/main", Err(AnswerFault::NotAName)),
        ("a/b/c/d", Err(AnswerFault::NotAName)),
        ("feature//x", Err(AnswerFault::NotAName)),
        ("feature/123", Err(AnswerFault::NotAName)),
        ("フィーチャー/x", Err(AnswerFault::NotAName)),
    ] {
        let got = branch_name(answer, "feature");
        assert_eq!(
            got.as_ref().map(BranchName::as_str),
            expected.as_ref().copied(),
            "{answer:?}"
        );
    }
}

#[test]
fn commit_messages_get_through_and_nothing_else_does() {
    let long = format!("feat: {}", "x".repeat(67));
    for (answer, expected) in [
        ("feat(ui): add dark mode\n", Ok("feat(ui): add dark mode")),
        ("fix!: drop old api", Ok("fix!: drop old api")),
        ("\"docs: explain\"", Ok("docs: explain")),
        ("```\nfeat: a\n\nbody\n```", Ok("feat: a\n\nbody")),
        ("feat: a\nbody", Ok("feat: a\n\nbody")),
        ("feat: a\r\n\r\nbody\r\n", Ok("feat: a\n\nbody")),
        ("feat: a\n\n\n\nb\n\n\n", Ok("feat: a\n\nb")),
        ("feat: a\n\n-\tb", Ok("feat: a\n\n- b")),
        (
            "feat: a\n\nSigned-off-by: E <e@x>\nb\nco-authored-by : M <m@x>",
            Ok("feat: a\n\nb"),
        ),
        ("feat: a\n\nCo-Authored-By: M <m@x>", Ok("feat: a")),
        ("feat: a\n\nnote: this stays", Ok("feat: a\n\nnote: this stays")),
        ("", Err(AnswerFault::Empty)),
        ("Add dark mode", Err(AnswerFault::NotConventional)),
        ("Sure! Here it is:\n\nfeat: a", Err(AnswerFault::NotConventional)),
        ("pwned: a", Err(AnswerFault::NotConventional)),
        ("feat(: a", Err(AnswerFault::NotConventional)),
        ("feat(): a", Err(AnswerFault::NotConventional)),
        ("feat(a<b>): a", Err(AnswerFault::NotConventional)),
        ("feat:", Err(AnswerFault::NotConventional)),
        ("feat:    ", Err(AnswerFault::NotConventional)),
        (&long, Err(AnswerFault::LongSubject)),
        ("feat: a\u{0}b", Err(AnswerFault::Deceptive)),
        ("feat: a\n\n\x1b[2Jb", Err(AnswerFault::Deceptive)),
        ("feat: a\rb", Err(AnswerFault::Deceptive)),
        ("feat: \u{202e}a", Err(AnswerFault::Deceptive)),
        ("feat: a\n\n```\ncode\n```\nmore", Err(AnswerFault::Fence)),
    ] {
        let got = commit_message(answer);
        assert_eq!(got.as_deref(), expected.as_ref().copied(), "{answer:?}");
    }
}

#[test]
fn bodies_are_wrapped_and_bounded() {
    let message = commit_message(&format!("feat: a\n\n- {}", "word ".repeat(40))).unwrap();
    let lines: Vec<&str> = message.lines().skip(2).collect();
    assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"));
    assert!(lines.iter().all(|line| line.chars().count() <= BODY_COLUMNS));
    let url = format!("https://host/{}", "x".repeat(100));
    assert!(
        commit_message(&format!("feat: a\n\nsee {url}"))
            .unwrap()
            .contains(&url)
    );
    let long = commit_message(&format!("feat: a\n\n{}", "line\n".repeat(10_000))).unwrap();
    assert!(long.len() <= MAX_MESSAGE_BYTES && long.ends_with("line"));
}

#[test]
fn wrapping_makes_no_trailer() {
    let filler = "x".repeat(70);
    let message = commit_message(&format!("feat: a\n\n{filler} Signed-off-by: E <e@x>")).unwrap();
    assert_eq!(message, format!("feat: a\n\n{filler}"));
}

proptest::proptest! {
    #[test]
    fn whatever_is_answered_the_rules_hold(answer in "((feat|fix)(\\(a\\))?: )?(\\PC{0,90}\\s?){0,6}((Signed-off|Co-authored)-by: \\PC{0,9}\\n?){0,2}") {
        if let Ok(message) = commit_message(&answer) {
            let first = message.lines().next().unwrap_or_default();
            proptest::prop_assert!(first.chars().count() <= MAX_SUBJECT_CHARS);
            proptest::prop_assert!(message.lines().skip(1).all(|line| !is_trailer(line)));
            proptest::prop_assert!(message.chars().all(|c| c == '\n' || !is_deceptive(c)));
            proptest::prop_assert!(message.len() <= MAX_MESSAGE_BYTES);
            let again = commit_message(&message);
            proptest::prop_assert_eq!(again, Ok(message));
        }
        if let Ok(name) = branch_name(&answer, "task") {
            proptest::prop_assert!(name.as_str().len() <= MAX_NAME_CHARS && name.as_str().contains('/'));
        }
    }
}
