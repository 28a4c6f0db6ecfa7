//! A page of the documentation as what it holds: fenced blocks, commands, and what it says that they answer. Its commands
//! are run as they stand, in their order, in one shell.
//!
//! A block whose first line begins with [`NOT_RUN`] needs what no test has, says so to the reader, and is left out.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a block begins that isn't run; what it needs follows.
pub const NOT_RUN: &str = "# Not run by the tests: needs ";
/// Begins what the script says about a command, besides what the command says.
pub const MARK: &str = "@@";
/// Before `curl`: tells the status behind the answer.
const CURL: &str = r#"curl() {
    for _ in {1..100}; do
        answer=$(command curl --silent --show-error --max-time 30 --write-out '\nMARK status %{http_code}' "$@")
        [[ $answer == *NoPolicyMatches* ]] || break
        sleep 0.1
    done
    echo "$answer"
}
"#;
/// The page's own address.
pub const ADDRESS: &str = "http://127.0.0.1:8080";

/// The text of a page, by its path in the sources.
pub fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A fenced block.
pub struct Block {
    pub language: String,
    pub lines: Vec<String>,
}

pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push(Block { language: language.to_owned(), lines: Vec::new() });
            }
        } else if inside {
            blocks.last_mut().unwrap().lines.push(line.to_owned());
        }
    }
    assert!(!inside, "a block doesn't end");
    blocks
}

/// A command, and what the page says that it answers.
#[derive(Debug)]
pub struct Step {
    pub command: String,
    pub says: Vec<String>,
}

impl Block {
    pub fn is_run(&self) -> bool {
        self.language == "console" && !self.lines[0].starts_with(NOT_RUN)
    }

    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut continued = false;
        for line in &self.lines {
            if continued {
                write!(steps.last_mut().unwrap().command, "\n{line}").unwrap();
            } else if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), says: Vec::new() });
            } else {
                let step = steps.last_mut().unwrap_or_else(|| panic!("{line:?} answers no command"));
                step.says.push(line.clone());
                continue;
            }
            continued = line.ends_with('\\');
        }
        steps
    }
}

/// Whether `text` holds the pieces of `says` between its ellipses, in that order.
pub fn holds(text: &str, says: &str) -> bool {
    let mut rest = text;
    says.split('…').all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

pub fn has_program(name: &str, argument: &str) {
    let run = Command::new(name).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(run.is_ok_and(|status| status.success()), "the page's commands need {name} on the PATH: install it");
}

/// The commands as a script: each with its number before it and its fate behind it.
pub fn script(steps: &[Step], url: &str) -> String {
    let mut script = String::from("set -uo pipefail\n");
    // The policy that was applied a moment ago may not have come to the webhook yet. A person is slower than that.
    script.push_str(&CURL.replace("MARK", MARK));
    for (number, Step { command, .. }) in steps.iter().enumerate() {
        let command = command.replace(ADDRESS, url);
        writeln!(script, "echo '{MARK} step {number}'\n{{ {command}\n}} 2>&1 || {{ echo '{MARK} failed'; exit 1; }}")
            .unwrap();
    }
    writeln!(script, "echo '{MARK} step {}'", steps.len()).unwrap();
    script
}

/// What each step answered, in a script's output.
pub fn answers<'a>(steps: &'a [Step], said: &'a str) -> impl Iterator<Item = (&'a Step, &'a str)> {
    steps.iter().enumerate().map(move |(number, step)| {
        let (_, rest) = said.split_once(&format!("{MARK} step {number}\n")).expect("every step is announced");
        let (answer, _) = rest.split_once(&format!("{MARK} step {}\n", number + 1)).expect("every step is announced");
        (step, answer)
    })
}

impl Step {
    /// Fails unless it answered what the page says.
    pub fn answered(&self, answer: &str, url: &str) {
        for says in &self.says {
            let says = says.replace(ADDRESS, url);
            assert!(holds(answer, &says), "{self:#?} answers\n{answer}");
        }
    }
}
