//! Compares what came with what had to come.

use std::time::Duration;

use engine::ExecutionAnswer;

use super::catalogue::Attack;

/// How long beyond its time limit an execution may take to be over.
pub(super) const GRACE: Duration = Duration::from_millis(1500);

/// What of a text is shown.
const SHOWN_CHARACTERS: usize = 300;

/// How an execution ended, in the words of the catalogue.
pub(super) fn end_of(answer: &ExecutionAnswer) -> String {
    match (answer.exception, answer.exit_code) {
        (Some(exception), _) => exception.to_string(),
        (None, Some(0)) => "success".to_owned(),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => "without a status".to_owned(),
    }
}

/// What is wrong with an answer to an attack.
pub(super) fn of_attack(attack: &Attack, answer: &ExecutionAnswer) -> Vec<String> {
    let mut wrong = Vec::new();
    let end = end_of(answer);
    if !attack.ends.contains(&end) {
        wrong.push(format!("ended with {end} instead of {}", attack.ends.join(" or ")));
    }
    if let Some(stdout) = attack.stdout.as_ref().filter(|stdout| **stdout != answer.stdout) {
        wrong.push(format!("printed {} instead of {}", shown(&answer.stdout), shown(stdout)));
    }
    if let Some([stdout, stderr]) = attack.keeps {
        let kept = [answer.stdout.len(), answer.stderr.as_deref().unwrap_or_default().len()];
        if kept != [stdout, stderr] {
            wrong.push(format!("{kept:?} bytes of output are kept instead of {:?}", [stdout, stderr]));
        }
    }
    let took = Duration::from_millis(answer.execution_time);
    if took > attack.timeout() + GRACE {
        wrong.push(format!(
            "took {took:.1?} by the guest's clock, with a time limit of {:?}",
            attack.timeout()
        ));
    }
    if !wrong.is_empty()
        && let Some(stderr) = &answer.stderr
    {
        wrong.push(format!("its stderr: {}", shown(stderr)));
    }
    wrong
}

/// What is wrong with how long all executions took together, by the host's clock.
pub(super) fn of_time(attack: &Attack, executions: u32, took: Duration) -> Option<String> {
    let longest = (attack.timeout() + GRACE) * executions;
    (took > longest).then(|| format!("took {took:.1?} by the host's clock, with at most {longest:?} for all"))
}

/// A text as it may be shown: its beginning, escaped.
pub(super) fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let rest = if beginning.len() < text.len() { " …" } else { "" };
    format!("{beginning:?}{rest}")
}

#[cfg(test)]
mod tests {
    use engine::Exception;

    use super::*;

    fn attack() -> Attack {
        let text = "program = 'x.py'\ntimeout = 2\nends = ['success', 'exit 3']\nstdout = \"held\\n\"";
        toml::from_str(text).unwrap()
    }

    fn answer() -> ExecutionAnswer {
        ExecutionAnswer {
            status: "success",
            stdout: "held\n".to_owned(),
            stderr: None,
            exception: None,
            execution_time: 3_400,
            exit_code: Some(0),
            trailing_newlines_omitted: 0,
            dropped: None,
            files: None,
            files_omitted: Vec::new(),
            usage: None,
            stdin: None,
            trace_id: "t".to_owned(),
        }
    }

    #[test]
    fn an_answer_as_it_has_to_be_has_nothing_wrong() {
        assert_eq!(of_attack(&attack(), &answer()), Vec::<String>::new());
        assert_eq!(
            of_attack(&attack(), &ExecutionAnswer { exit_code: Some(3), ..answer() }),
            Vec::<String>::new()
        );
        assert_eq!(of_time(&attack(), 2, Duration::from_secs(7)), None);
    }

    #[test]
    fn whatever_differs_is_wrong() {
        let wrong = [
            ExecutionAnswer { exit_code: Some(4), ..answer() },
            ExecutionAnswer { exit_code: None, exception: Some(Exception::Timeout), ..answer() },
            ExecutionAnswer { stdout: "escaped\n".to_owned(), ..answer() },
            ExecutionAnswer { execution_time: 3_501, ..answer() },
        ];
        for answer in wrong {
            assert_eq!(of_attack(&attack(), &answer).len(), 1, "{answer:?}");
        }
        let keeps = Attack { keeps: Some([5, 1]), ..attack() };
        assert_eq!(of_attack(&keeps, &answer()).len(), 1);
        assert!(of_time(&attack(), 2, Duration::from_millis(7_001)).is_some());
    }

    #[test]
    fn what_a_program_printed_is_escaped_and_short() {
        assert_eq!(shown("\u{1b}[2J"), r#""\u{1b}[2J""#);
        assert!(shown(&"x".repeat(1000)).len() < 320);
    }
}
