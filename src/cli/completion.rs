//! `tranche completion`: what a shell needs to complete commands; and kubectl's way of asking its plugins for it.

use clap::Args;
use clap_complete::{Shell, generate};

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "\
bash: source <(tranche completion bash), in ~/.bashrc\nzsh: source <(tranche completion zsh), in ~/.zshrc\n\
fish: tranche completion fish | source\nFor `kubectl tranche`, link the binary as kubectl_complete-tranche as well.")]
pub struct CompletionArgs {
    /// Which shell
    pub shell: Shell,
}

/// Prints it.
///
/// # Errors
/// When nobody reads it.
pub fn run(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    generate(args.shell, &mut super::command(None), "tranche", &mut text);
    super::output::print(&String::from_utf8_lossy(&text))
}

/// The name under which kubectl asks how `kubectl tranche …` goes on.
pub const KUBECTL_ASKS: &str = "kubectl_complete-tranche";
/// Says to kubectl: files are no answer.
const NO_FILES: &str = ":4";

/// How a command line may go on: commands, or options once a dash is typed. In the form of kubectl: a line each with its
/// description, and a directive.
#[must_use]
pub fn next_words(typed: &[String]) -> String {
    let (last, before) = typed.split_last().map_or(("", typed), |(last, before)| (last.as_str(), before));
    let mut command = super::command(None);
    for word in before {
        let next = command.find_subcommand(word).cloned();
        command = next.unwrap_or(command);
    }
    command.build();
    let about = |text: Option<&clap::builder::StyledStr>| {
        text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    let mut words: Vec<(String, String)> = if last.starts_with('-') {
        let options = command.get_arguments().filter(|option| !option.is_hide_set());
        options.filter_map(|option| Some((format!("--{}", option.get_long()?), about(option.get_help())))).collect()
    } else {
        command.get_subcommands().map(|sub| (sub.get_name().to_owned(), about(sub.get_about()))).collect()
    };
    words.retain(|(word, _)| word.starts_with(last));
    let lines: String = words.into_iter().map(|(word, about)| format!("{word}\t{about}\n")).collect();
    format!("{lines}{NO_FILES}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &[&str]) -> Vec<String> {
        let typed: Vec<String> = typed.iter().map(|word| (*word).to_owned()).collect();
        let text = next_words(&typed);
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_next_word() {
        assert_eq!(words(&["rollouts", "re"]), ["resume", "retry", ":4"]);
        assert_eq!(words(&["rollouts", "pause", "--d"]), ["--dry-run", ":4"]);
        assert_eq!(words(&["rollouts", "pause", ""]), [":4"]);
        assert!(words(&[""]).contains(&"doctor".to_owned()));
    }
}
