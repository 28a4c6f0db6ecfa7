//! Golden logs: what a fixed-order run tells, compared with `tests/golden/<name>.txt`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it plan_` writes them; reading the diff is the review.

use std::path::Path;

/// Compares a story with its golden file, or writes it.
pub fn compare(name: &str, story: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    let text = story.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("writing a golden file");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden == text {
        return;
    }
    let line = golden.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(golden.lines().count());
    panic!(
        "{} is told differently from line {} on (UPDATE_GOLDEN=1 accepts it)\n  golden: {}\n  now:    {}\n\n{text}",
        path.display(),
        line + 1,
        golden.lines().nth(line).unwrap_or("(ends)"),
        text.lines().nth(line).unwrap_or("(ends)"),
    );
}
