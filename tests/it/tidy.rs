//! Rules of the repository that a compiler does not check. A rule that matters is a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which crate may know which: the architecture, as a table. A new arrow is a decision.
const ARROWS: &[(&str, &str)] = &[
    ("ident", ""),
    ("chart", ""),
    ("mcp", ""),
    ("team", ""),
    ("message", ""),
    ("inference", "ident message"),
    ("trajectory", "ident inference message"),
    ("manifest", "ident message"),
    ("storage", ""),
    ("hub", "storage"),
    ("ingest", "ident inference manifest message redact trajectory"),
    ("redact", ""),
    ("recognition", "redact"),
    ("journal", "ident inference message storage trajectory"),
    ("capture", "ident ingest message redact trajectory"),
    ("intake", "capture ident ingest journal trajectory"),
    ("dataset", "ident inference manifest message redact storage trajectory"),
    ("export", "dataset ident manifest storage"),
    ("model", "ident inference manifest message team"),
    ("embedding", "ident inference model team"),
    ("objective", "manifest"),
    ("trainer", "ident manifest message model objective storage"),
    ("engine", "ident inference manifest message model team"),
    ("reward", "manifest message"),
    ("environment", "message reward"),
    ("scorer", "manifest message redact reward"),
    ("evaluation", "ident inference manifest message scorer"),
    ("rollout", "engine environment ident inference manifest message model reward trainer"),
    ("signature", ""),
    ("registry", "ident manifest signature storage"),
    ("access", "ident storage"),
    ("statistics", ""),
    ("router", "ident manifest statistics trajectory"),
    ("simulation", "manifest router statistics"),
    ("memory", "ident inference manifest message objective redact statistics storage trajectory"),
    ("toolworld", "ident inference memory message statistics"),
    ("teacher", "ident inference message redact storage"),
    ("conduct", "inference manifest message scorer trajectory"),
    ("upstream", "ident inference message"),
    ("canary", "ident inference journal manifest memory registry router statistics trajectory"),
    ("orchestrator", "ident manifest storage"),
    ("lookout", "ident journal manifest message orchestrator registry statistics trajectory"),
    ("live", "ident journal manifest scorer statistics trajectory"),
    ("openai", "inference message"),
    (
        "gateway",
        "access canary capture conduct ident inference ingest intake journal live manifest memory message openai \
         registry router trajectory",
    ),
    ("supportdesk", "ident manifest message"),
    (
        "drill",
        "canary gateway ident inference journal manifest registry router simulation trajectory \
         upstream",
    ),
];

/// Heavy dependencies, and the crates that may name them.
const FENCES: &[(&str, &str)] = &[
    ("candle-core", "embedding model trainer engine understudy"),
    ("axum", "gateway"),
    ("tokio-rustls", "gateway"),
    ("llguidance", "engine"),
    ("clap", "understudy"),
    ("hf-hub", "hub"),
    ("tokenizers", "embedding model"),
    ("p256", "signature"),
    ("ed25519-dalek", "signature"),
    ("rusqlite", "storage journal registry orchestrator memory access"),
    ("indicatif", "understudy"),
    ("tokio", "drill gateway upstream understudy"),
    ("hyper", "gateway upstream"),
    ("regex", "model redact reward scorer"),
    ("jsonschema", "conduct reward scorer"),
    ("rustix", "reward understudy"),
    ("prost", "ingest"),
    ("flate2", "ingest"),
    ("serde-saphyr", "ingest"),
    ("zip", "hub ingest"),
    ("parquet", "export"),
    ("chacha20poly1305", "journal memory"),
    ("whatlang", "dataset"),
];

#[test]
fn every_arrow_between_crates_is_in_the_table() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(from, to)| (*from, to.split_whitespace().collect())).collect();
    for (name, manifest) in manifests() {
        if name == "understudy" {
            continue;
        }
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no arrows"));
        for dependency in dependencies(&manifest) {
            if let Some(other) = dependency.strip_prefix("understudy-") {
                assert!(allowed.contains(other), "{name} -> {other} is not in the arrow table");
            }
        }
    }
}

#[test]
fn heavy_dependencies_stay_behind_their_fences() {
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest) {
            if let Some((_, owners)) = FENCES.iter().find(|(heavy, _)| *heavy == dependency) {
                let owned = owners.split_whitespace().any(|owner| owner == name);
                assert!(owned, "{name} depends on {dependency}, which belongs to: {owners}");
            }
        }
    }
}

#[test]
fn every_library_says_what_it_never_does() {
    for (name, manifest) in manifests() {
        let library = manifest.with_file_name("src").join("lib.rs");
        if let Ok(text) = fs::read_to_string(&library) {
            let docs: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            assert!(docs.to_lowercase().contains("never"), "{name}: lib.rs does not say never");
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_is_and_fits_one_room() {
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 800, "{} has {lines} lines", file.display());
        let is_test =
            file.ends_with("tests.rs") || file.components().any(|c| c.as_os_str() == "tests");
        if lines > 60 && !is_test {
            assert!(text.starts_with("//!"), "{} does not say what it is", file.display());
        }
        assert!(!file.ends_with("mod.rs"), "{} should be named after its module", file.display());
    }
}

#[test]
fn nothing_unfinished_is_committed() {
    // Spelled in halves so that this file does not find itself.
    let words = [["#[ign", "ore"], ["FIX", "ME"], ["unimple", "mented!("], ["to", "do!("]];
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        for word in words.map(|halves| halves.concat()) {
            assert!(!text.contains(&word), "{} contains {word}", file.display());
        }
    }
}

#[test]
fn every_recipe_parses() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("recipes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            understudy_manifest::Recipe::parse(&path.display().to_string(), &text).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 2, "only {seen} recipes found");
}

#[test]
fn every_command_of_the_readme_exists() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut seen = 0;
    for line in readme.lines().map(str::trim) {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if let Some(rest) = line.strip_prefix("understudy ") {
            let words: Vec<&str> = rest
                .split_whitespace()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .take(2)
                .collect();
            let help = |words: &[&str]| {
                let output = Command::new(env!("CARGO_BIN_EXE_understudy"))
                    .args(words)
                    .arg("--help")
                    .output()
                    .unwrap();
                output.status.success()
            };
            assert!(help(&words) || help(&words[..1]), "README: `understudy {rest}` has no help");
            seen += 1;
        }
    }
    assert!(seen >= 5, "the README shows only {seen} commands");
}

#[test]
fn every_attempt_of_the_security_page_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let (_, table) = page.split_once("<!-- attempts -->").unwrap();
    let rows = table.lines().skip(3).take_while(|line| line.starts_with('|'));
    let files: Vec<(String, BTreeSet<String>)> = rust_files()
        .into_iter()
        .map(|file| {
            let tests = tests_of(&fs::read_to_string(&file).unwrap());
            (file.display().to_string(), tests)
        })
        .collect();
    let mut seen = 0;
    for row in rows.filter(|row| !row.starts_with("| **")) {
        let tests = row.split('|').nth(2).unwrap();
        let (mut file, mut found) = ("crates/gateway/src/tests/", 0);
        for name in tests.split('`').skip(1).step_by(2) {
            if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
                file = name;
                continue;
            }
            let is_there = files.iter().any(|(path, tests)| {
                let here = path.ends_with(&format!("/{file}")) || path.contains(file);
                here && tests.contains(name)
            });
            assert!(is_there, "docs/SECURITY.md: no test `{name}` in {file}: {row}");
            found += 1;
        }
        assert!(found > 0, "docs/SECURITY.md: this attempt names no test: {row}");
        seen += 1;
    }
    assert!(seen >= 50, "only {seen} attempts are listed");
}

/// What strangers send is fuzzed by hand, and in short in every test run: a target that is declared
/// nowhere, or has no short form, is never run.
#[test]
fn every_fuzz_target_is_declared_and_has_a_short_form() {
    let targets: BTreeSet<String> = fs::read_dir(root().join("fuzz/fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter();
    let declared: BTreeSet<String> =
        bins.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(targets, declared);
    let page = fs::read_to_string(root().join("docs/INGEST.md")).unwrap();
    let (_, table) = page.split_once("| `cargo +nightly fuzz run` |").unwrap();
    let mut told = BTreeSet::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let named: Vec<&str> = row.split('`').collect();
        let (target, short) = (named[1], named[named.len() - 2]);
        let (package, prefix) = short.split_once(' ').unwrap();
        let folder = root().join("crates").join(package.strip_prefix("understudy-").unwrap());
        let files = rust_files().into_iter().filter(|file| file.starts_with(&folder));
        let is_there = files.into_iter().any(|file| {
            let tests = tests_of(&fs::read_to_string(file).unwrap());
            tests.iter().any(|test| test.starts_with(prefix))
        });
        assert!(is_there, "docs/INGEST.md: {package} has no test `{prefix}…`");
        told.insert(target.to_owned());
    }
    assert_eq!(told, targets, "docs/INGEST.md");
    let decoders = ["telemetry", "decompress", "imports", "suites", "requests", "signature"];
    assert!(decoders.iter().all(|decoder| targets.contains(*decoder)), "{targets:?}");
}

/// Statements are constants: what comes from outside is bound, never written into them. The few
/// that are put together are put together from conditions that stand in the code.
#[test]
fn no_statement_holds_what_somebody_said() {
    const CONDITIONS: [&str; 5] = ["named", "HOLDS", "before", "called", "then"];
    const VERBS: [&str; 6] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "PRAGMA ", "WITH "];
    let mut seen = 0;
    for file in rust_files() {
        let names = file.components().map(std::path::Component::as_os_str);
        if file.ends_with("tests.rs") || names.into_iter().any(|part| part == "tests") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("format!(") {
            let rest = text[at + 8..].trim_start_matches([' ', '\n', '"', 'r', '#', '&']);
            if !VERBS.iter().any(|verb| rest.starts_with(verb)) {
                continue;
            }
            seen += 1;
            let statement = rest.split(['"', ';']).next().unwrap();
            for hole in statement.split('{').skip(1) {
                let name = hole.split(['}', ':']).next().unwrap();
                let is_known = CONDITIONS.contains(&name);
                assert!(is_known, "{}: {{{name}}} in a statement: {statement}", file.display());
            }
        }
    }
    assert!(seen > 0, "the statements moved");
}

/// The functions that are tests, those of proptest among them.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if let Some(rest) = line.strip_prefix("fn ").or(line.strip_prefix("async fn ")) {
            let name = rest.split(['(', '<']).next().unwrap();
            if std::mem::take(&mut is_test) {
                tests.insert(name.to_owned());
            }
        }
    }
    tests
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every crate's folder name and manifest.
fn manifests() -> Vec<(String, PathBuf)> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let mut found: Vec<(String, PathBuf)> = crates
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), path.join("Cargo.toml"))
        })
        .collect();
    found.sort();
    assert!(found.len() > 15, "the crates moved");
    found
}

/// What a manifest names under `[dependencies]`, dev-dependencies aside.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    let named = table.get("dependencies").and_then(toml::Value::as_table);
    named.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join("crates"), root().join("tests")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
