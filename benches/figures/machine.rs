//! What it was measured on.

use std::fs::read_to_string;

/// Processor, cores, memory and load, in a line.
pub fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = read_to_string(file).unwrap_or_default();
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim_matches([' ', ':', '\t']));
        value.unwrap_or("unknown").to_owned()
    };
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} cores, {} memory, load {}",
        field("/proc/cpuinfo", "model name"),
        cores(),
        field("/proc/meminfo", "MemTotal:"),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
