//! `cargo xtask guide`: follows a guide as a reader would. It runs the commands in the guide and compares their output
//! with the output that the guide shows, so that no guide is wrong.
//!
//! A block fenced as `console` holds commands, each after its prompt (`# `, `$ ` or `> `), and below each the expected
//! output. There, a line `...` matches any lines. A number matches any other number, but `0` matches only `0`. The
//! commands of a block fenced as `console retry` are repeated until their output matches, for up to a minute.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The longest time that a `retry` command may take to show the expected output.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of a guide, with its expected output.
#[derive(Debug, PartialEq)]
struct Step {
    /// The line in the guide, from 1.
    line: usize,
    command: String,
    expected: Vec<String>,
    retry: bool,
}

/// The options of `cargo xtask guide`.
#[derive(clap::Args)]
pub struct Options {
    /// The guide, in Markdown
    guide: PathBuf,
    /// Replace a text of the guide, such as the example's host or the version in a file name
    #[arg(long, value_name = "FROM=TO")]
    replace: Vec<String>,
    /// The shell and its arguments; each command is added as the last argument
    #[arg(last = true, default_values = ["bash", "-c"])]
    shell: Vec<String>,
}

/// Runs all commands of a guide. Fails at the first output that differs from the guide.
pub fn follow(Options { guide, replace, shell }: &Options) -> Result<()> {
    let mut text = std::fs::read_to_string(guide).with_context(|| format!("{} cannot be read", guide.display()))?;
    for replace in replace {
        let (from, to) = replace.split_once('=').with_context(|| format!("{replace:?} is not FROM=TO"))?;
        text = text.replace(from, to);
    }
    let steps = steps(&text);
    ensure!(!steps.is_empty(), "{} has no command in a block fenced as `console`", guide.display());
    for step in &steps {
        println!("{}:{}: {}", guide.display(), step.line, step.command);
        let began = Instant::now();
        loop {
            let (screen, succeeded) = run(&step.command, shell)?;
            let is_expected = succeeded && matches(&step.expected, &screen);
            if is_expected {
                break;
            }
            ensure!(
                step.retry && began.elapsed() < PATIENCE,
                "{}:{}: {} {}. The screen:\n{screen}\nThe guide:\n{}",
                guide.display(),
                step.line,
                step.command,
                if succeeded { "shows something else" } else { "fails" },
                step.expected.join("\n")
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn run(command: &str, shell: &[String]) -> Result<(String, bool)> {
    let (program, arguments) = shell.split_first().context("a shell is a program")?;
    let output = Command::new(program).args(arguments).arg(command).output()?;
    let screen = [output.stdout, output.stderr].concat();
    Ok((without_colours(&String::from_utf8_lossy(&screen).replace('\r', "")), output.status.success()))
}

/// Removes colour sequences from output, because some commands run in a terminal of their own.
fn without_colours(screen: &str) -> String {
    let mut parts = screen.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.split_once('m').map_or(part, |(_, rest)| rest)));
    text
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut is_console, mut retry) = (false, false);
    for (index, line) in text.lines().enumerate() {
        if let Some(fence) = line.strip_prefix("```") {
            is_console = fence.split(' ').next() == Some("console");
            retry = fence.ends_with(" retry");
            continue;
        }
        if !is_console {
            continue;
        }
        let command = ["# ", "$ ", "> "].iter().find_map(|prompt| line.strip_prefix(prompt));
        match (steps.last_mut(), command) {
            (Some(step), _) if step.command.ends_with('\\') => {
                step.command.pop();
                step.command.push_str(line.trim_start());
            }
            (_, Some(command)) => {
                steps.push(Step { line: index + 1, command: command.into(), expected: Vec::new(), retry });
            }
            (Some(step), None) => step.expected.push(line.into()),
            (None, None) => {}
        }
    }
    steps
}

/// Returns whether the output is as expected. If the guide shows no output, any output is.
fn matches(expected: &[String], screen: &str) -> bool {
    fn rest(expected: &[String], screen: &[String]) -> bool {
        match expected.split_first() {
            None => screen.is_empty(),
            Some((any, expected)) if any == "..." => (0..=screen.len()).any(|skip| rest(expected, &screen[skip..])),
            Some((line, expected)) => screen.first().is_some_and(|seen| seen == line) && rest(expected, &screen[1..]),
        }
    }
    let expected: Vec<String> = expected.iter().map(|line| shape(line)).collect();
    let screen: Vec<String> = screen.lines().map(shape).collect();
    expected.is_empty() || rest(&expected, &screen)
}

/// Returns a line without the parts that may differ from run to run: numbers, the widths of columns, and the lines that
/// frame them.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut number = String::new();
    let mut chars = line.trim().chars().chain(['\n']).peekable();
    while let Some(char) = chars.next() {
        // A comma between two digits separates thousands.
        let separates = char == ',' && !number.is_empty() && chars.peek().is_some_and(char::is_ascii_digit);
        if char.is_ascii_digit() || separates {
            number.push(char);
            continue;
        }
        match std::mem::take(&mut number).as_str() {
            "" => {}
            "0" => shape.push('0'),
            _ => shape.push('9'),
        }
        let char = if char == '─' { ' ' } else { char };
        if !(char == ' ' && shape.ends_with(' ')) {
            shape.push(char);
        }
    }
    // Drop the line feed, which was added only to end a number.
    shape.pop();
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_screens_are_found() {
        let text =
            "Do:\n\n```console\n# one \\\n    two\nout 1\n```\n\n    # not this\n\n```console retry\n$ three\n```\n";
        let step = |line, command: &str, expected: &[&str], retry| Step {
            line,
            command: command.into(),
            expected: expected.iter().map(|&line| line.into()).collect(),
            retry,
        };
        assert_eq!(steps(text), [step(4, "one two", &["out 1"], false), step(12, "three", &[], true)]);
    }

    #[test]
    fn numbers_and_widths_may_differ_and_nothing_else() {
        let expected = ["a  12", "...", "z"].map(str::to_owned);
        assert!(matches(&expected, "a 7\nb\nc\nz\n"));
        assert!(matches(&expected, "a 7\nz\n"));
        assert!(!matches(&expected, "a x\nz\n"));
        assert!(!matches(&expected, "a 7\nz\nmore\n"));
        assert!(!matches(&expected, "a 0\nz\n"), "some is not none");
    }
}
