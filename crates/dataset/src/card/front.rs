//! The front matter of a card: what the Hugging Face hub and `datasets` read.

use std::fmt::{Result, Write as _};

use understudy_manifest::{DatasetManifest, FileEntry, Split};

use crate::row::RowKind;

/// `files` are those that lie beside the card, which need not be the version's own.
pub(super) fn write(card: &mut String, manifest: &DatasetManifest, files: &[FileEntry]) -> Result {
    writeln!(card, "---")?;
    if let Some(stated) = manifest.data.as_ref().map(|data| &data.card) {
        if let Some(license) = &stated.license {
            writeln!(card, "license: \"{license}\"")?;
        }
        if !stated.language.is_empty() {
            writeln!(card, "language:")?;
        }
        // Quoted, because Norwegian is `no`.
        stated.language.iter().try_for_each(|code| writeln!(card, "- \"{code}\""))?;
    }
    let configs: Vec<Config<'_>> = RowKind::ALL
        .into_iter()
        .map(|kind| Config::of(kind, manifest, files))
        .filter(|config| !config.splits.is_empty())
        .collect();
    let rows = configs.iter().flat_map(|config| &config.splits).map(|split| split.rows).sum();
    writeln!(card, "size_categories:\n- {}", size(rows))?;
    if !configs.is_empty() {
        writeln!(card, "configs:")?;
        configs.iter().try_for_each(|config| config.write_files(card))?;
        writeln!(card, "dataset_info:")?;
        configs.iter().try_for_each(|config| config.write_counts(card))?;
    }
    writeln!(card, "---\n")
}

/// The rows of one kind: what `load_dataset` takes as its second argument.
struct Config<'a> {
    kind: RowKind,
    splits: Vec<Part<'a>>,
}

/// One split of it.
struct Part<'a> {
    name: &'static str,
    path: &'a str,
    rows: u64,
    /// Of the lines, whatever the file is,
    bytes: u64,
    /// and of the file.
    download: u64,
}

impl<'a> Config<'a> {
    fn of(kind: RowKind, manifest: &DatasetManifest, files: &'a [FileEntry]) -> Self {
        let split = |(split, name): (Split, &'static str)| {
            let lines = kind.file_name(split);
            let stem = lines.trim_end_matches("jsonl");
            let file = files.iter().find(|file| file.path.starts_with(stem) && file.rows > 0)?;
            let own = manifest.files.iter().find(|own| own.path == lines);
            let bytes = own.map_or(file.bytes, |own| own.bytes);
            Some(Part { name, path: &file.path, rows: file.rows, bytes, download: file.bytes })
        };
        let splits = [(Split::Train, "train"), (Split::Dev, "validation")];
        Self { kind, splits: splits.into_iter().filter_map(split).collect() }
    }

    fn write_files(&self, card: &mut String) -> Result {
        writeln!(card, "- config_name: {}\n  data_files:", self.kind.as_str())?;
        self.splits.iter().try_for_each(|Part { name, path, .. }| {
            writeln!(card, "  - split: {name}\n    path: {path}")
        })
    }

    /// Without features: `datasets` finds these in the rows, which also say what is JSON in them.
    fn write_counts(&self, card: &mut String) -> Result {
        writeln!(card, "- config_name: {}\n  splits:", self.kind.as_str())?;
        for Part { name, bytes, rows, .. } in &self.splits {
            writeln!(card, "  - name: {name}\n    num_bytes: {bytes}\n    num_examples: {rows}")?;
        }
        let sum = |of: fn(&Part<'_>) -> u64| self.splits.iter().map(of).sum::<u64>();
        let (download, bytes) = (sum(|part| part.download), sum(|part| part.bytes));
        writeln!(card, "  download_size: {download}\n  dataset_size: {bytes}")
    }
}

/// The hub's names of sizes.
fn size(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        _ => "n>1B",
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_called_as_the_hub_calls_them() {
        let sizes = [0, 999, 1_000, 12_345, 999_999, 1_000_000].map(size);
        let called = ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"];
        assert_eq!(sizes, called);
    }
}
