//! The layers of the one package, as imports: it has no crate walls, so this test is the wall.
//!
//! `api <- plan <- {controller, gateway, manage, cli}`, `registry` pure beside `plan` (which borrows its patterns), and
//! the pure layers touch neither client nor clock nor chance nor the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module and what of this crate it may use. A module that is not listed here fails the test: say where it belongs.
const LAYERS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("registry", &["api"]),
    ("plan", &["api", "registry"]),
    ("verbs", &["api", "registry", "plan"]),
    ("enrol", &["api"]),
    ("clock", &[]),
    ("shutdown", &[]),
    ("kubeclient", &[]),
    ("telemetry", &[]),
    ("metrics", &[]),
    ("problem", &[]),
    ("server", &["metrics", "problem"]),
    ("ops", &["metrics"]),
    ("oci", &["api", "clock"]),
    // Its addresses are judged by the rules for registries, and its Secrets hidden alike.
    ("probe", &["api", "oci", "shutdown"]),
    ("resolver", &["api", "oci"]),
    ("record", &["api", "registry", "resolver"]),
    ("controller", &["api", "registry", "plan", "oci", "probe", "resolver", "record", "clock", "shutdown"]),
    ("gateway", &["api", "plan", "enrol", "clock", "metrics", "problem", "server"]),
    (
        "manage",
        &["api", "registry", "plan", "verbs", "oci", "resolver", "record", "clock", "problem", "server", "shutdown"],
    ),
    ("simulate", &["api", "clock", "shutdown"]),
    (
        "cli",
        &[
            "api",
            "plan",
            "registry",
            "verbs",
            "controller",
            "enrol",
            "gateway",
            "manage",
            "oci",
            "probe",
            "resolver",
            "record",
            "simulate",
            "server",
            "ops",
            "metrics",
            "telemetry",
            "kubeclient",
            "shutdown",
            "clock",
        ],
    ),
];

/// Layers in which nothing but values may happen, and what would be more.
const PURE: &[&str] = &["api", "plan", "registry", "enrol"];
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "hyper",
    "axum",
    "rand",
    "tracing",
    "kube::Client",
    "kube::Api",
    "kube::runtime",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "Timestamp::now",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Code without comments and without the tests at a file's end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap();
    product.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn module_of(source: &Path, file: &Path) -> String {
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Modules of this crate that a piece of code names, directly or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(list) => {
                found.extend(list.split('}').next().unwrap().split(',').map(|part| word(part.trim())));
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn imports_follow_the_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(&source, &file);
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: the module {module} has no place in LAYERS", file.display()));
            continue;
        };
        for import in imports(&code(&file)) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {module} must not use {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn pure_layers_are_pure() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let pure = |file: &PathBuf| PURE.contains(&module_of(&source, file).as_str()) || file.ends_with("gateway/etag.rs");
    for file in rust_files(&source).into_iter().filter(pure) {
        let code = code(&file);
        for word in IMPURE {
            let uses = |(at, _): (usize, &str)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if code.match_indices(word).any(uses) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn the_walls_are_seen() {
    assert_eq!(
        imports("use crate::{api, plan::Plan};\nlet x = crate::clock::now();"),
        ["api", "clock", "plan"].map(String::from).into()
    );
}
