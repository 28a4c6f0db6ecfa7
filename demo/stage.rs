//! The screen: a live block while something moves on a terminal, plain lines of the same content elsewhere.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The spinner of a live block turns this often.
const SPIN: Duration = Duration::from_millis(100);
/// Plain lines of one and the same phase come at most this often.
const PLAIN_PAUSE: Duration = Duration::from_millis(700);

/// Where the story is told.
pub struct Stage {
    started: Instant,
    terminal: bool,
    pub paint: Paint,
    live: Option<Live>,
    /// The last plain line's key and text, and when it came.
    last: Option<(String, String, Instant)>,
    failed: usize,
}

/// What moves, at one moment.
pub struct View {
    /// The lines of the live block.
    pub rich: Vec<String>,
    /// What changes from moment to moment, in one line.
    pub plain: String,
    /// What is being waited for. Printed whenever `key` changes.
    pub headline: String,
    /// Where the story stands; the plain line is worth printing at once when it changes.
    pub key: String,
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
pub struct Paint(bool);

struct Live {
    lines: Vec<ProgressBar>,
    block: MultiProgress,
}

impl Stage {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { started: Instant::now(), terminal, paint: Paint(colour), live: None, last: None, failed: 0 }
    }

    /// Seconds since the curtain rose.
    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    pub fn title(&self, text: &str) {
        println!("\n{}", self.paint.bold(text));
    }

    /// Begins a part of the story.
    pub fn act(&mut self, text: &str) {
        self.settle();
        println!("\n{} {}", self.paint.cyan("▸"), self.paint.bold(text));
    }

    /// One line of the story.
    pub fn say(&mut self, text: impl Display) {
        self.settle();
        println!("  {text}");
    }

    /// Awaits something that takes a moment, and says what.
    pub async fn during<T>(&mut self, text: &str, work: impl Future<Output = T>) -> T {
        self.settle();
        if !self.terminal {
            return work.await;
        }
        let bar =
            ProgressBar::new_spinner().with_style(style("  {spinner:.cyan} {wide_msg}")).with_message(text.to_owned());
        bar.enable_steady_tick(SPIN);
        let done = work.await;
        bar.finish_and_clear();
        done
    }

    /// Shows what moves now.
    pub fn show(&mut self, view: &View) {
        if !self.terminal {
            return self.show_plain(view);
        }
        let live = self.live.get_or_insert_with(|| Live { lines: Vec::new(), block: MultiProgress::new() });
        while live.lines.len() < view.rich.len() {
            let bar = live.block.add(ProgressBar::new_spinner().with_style(style("{wide_msg}")));
            live.lines.push(bar);
        }
        for (bar, line) in live.lines.iter().zip(&view.rich) {
            bar.set_message(line.clone());
            bar.tick();
        }
    }

    fn show_plain(&mut self, view: &View) {
        let turn = self.last.as_ref().is_none_or(|(key, _, _)| *key != view.key);
        if let Some((_, text, at)) = &self.last
            && !turn
            && (*text == view.plain || at.elapsed() < PLAIN_PAUSE)
        {
            return;
        }
        if turn && !view.headline.is_empty() {
            println!("  {:5.1}s  {}", self.elapsed(), view.headline);
        }
        println!("  {:5.1}s    {}", self.elapsed(), view.plain);
        self.last = Some((view.key.clone(), view.plain.clone(), Instant::now()));
    }

    /// What moved stands still: its last lines stay on the screen.
    pub fn settle(&mut self) {
        self.last = None;
        let Some(Live { lines, block }) = self.live.take() else { return };
        let last: Vec<String> = lines.iter().map(ProgressBar::message).collect();
        // A terminal that went away takes its block with it.
        let _ = block.clear();
        for line in last {
            println!("{line}");
        }
    }

    /// Leaves what moved as it stands, because the terminal has written a `^C` over it and the lines can't be found again.
    pub fn abandon(&mut self) {
        if let Some(Live { block, .. }) = self.live.take() {
            block.set_draw_target(ProgressDrawTarget::hidden());
        }
        println!();
    }

    /// One thing that was to be seen. `seen` says what was seen, `Err` what was to be.
    pub fn check(&mut self, what: &str, seen: Result<String, String>) {
        self.settle();
        match seen {
            Ok(seen) => println!("  {} {what}  {}", self.paint.green("✓"), self.paint.dim(&seen)),
            Err(wrong) => {
                self.failed += 1;
                println!("  {} {what}\n      {}", self.paint.red("✗"), self.paint.red(&wrong));
            }
        }
    }
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn blue(self, text: &str) -> String {
        self.with("34", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours and stand above.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
