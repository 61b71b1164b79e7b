//! From what a user wrote (`base = "…"`) to a named model or to a path.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{HubError, Purpose, catalog::CatalogEntry, error::Attempt};

/// What a user meant by a base model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A name of the catalog; pull it to get a path.
    Named(&'static str),
    /// A `.gguf` file of the user's own; nothing pins its content.
    Gguf(PathBuf),
    /// A directory of the user's own, as Hugging Face lays it out.
    HuggingFaceDirectory(PathBuf),
}

/// A name of the catalog wins over a file of the same name; `./name` means the file.
pub(crate) fn resolve(catalog: &[CatalogEntry], text: &str) -> Result<Base, HubError> {
    if let Some(entry) = catalog.iter().find(|entry| entry.name == text) {
        if entry.purpose != Purpose::Base {
            let bases = catalog.iter().filter(|entry| entry.purpose == Purpose::Base);
            let bases = bases.map(|entry| entry.name).collect();
            return Err(HubError::NotABase { name: entry.name, bases });
        }
        return Ok(Base::Named(entry.name));
    }
    let path = Path::new(text);
    if path.is_dir() {
        check_directory(path)?;
        return Ok(Base::HuggingFaceDirectory(path.to_owned()));
    }
    if path.exists() {
        check_gguf(path)?;
        return Ok(Base::Gguf(path.to_owned()));
    }
    if looks_like_path(path, text) {
        return Err(HubError::NoSuchPath { path: path.to_owned() });
    }
    Err(unknown_name(catalog, text))
}

pub(crate) fn find<'a>(
    catalog: &'a [CatalogEntry],
    name: &str,
) -> Result<&'a CatalogEntry, HubError> {
    catalog.iter().find(|entry| entry.name == name).ok_or_else(|| unknown_name(catalog, name))
}

fn unknown_name(catalog: &[CatalogEntry], name: &str) -> HubError {
    // Jaro-Winkler favours a shared beginning, which is what a half remembered model name has.
    let distance = |entry: &CatalogEntry| strsim::jaro_winkler(&name.to_lowercase(), entry.name);
    let nearest = catalog
        .iter()
        .max_by(|a, b| distance(a).total_cmp(&distance(b)))
        .filter(|entry| distance(entry) > 0.75)
        .map(|entry| entry.name);
    let known = catalog.iter().map(|entry| entry.name).collect();
    HubError::UnknownName { name: name.to_owned(), nearest, known }
}

fn looks_like_path(path: &Path, text: &str) -> bool {
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    is_gguf || text.starts_with(['.', '~']) || text.contains(['/', '\\'])
}

fn check_gguf(path: &Path) -> Result<(), HubError> {
    let mut magic = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .attempt("read base model", path)?;
    if magic != b"GGUF" {
        return Err(HubError::NotAModel {
            path: path.to_owned(),
            why: "the file does not begin with GGUF",
        });
    }
    Ok(())
}

fn check_directory(path: &Path) -> Result<(), HubError> {
    let not_a_model = |why| Err(HubError::NotAModel { path: path.to_owned(), why });
    if !path.join("config.json").is_file() {
        return not_a_model("the directory has no config.json");
    }
    let mut has_weights = false;
    for entry in fs::read_dir(path).attempt("list", path)? {
        let path = entry.attempt("list", path)?.path();
        has_weights |= path.extension().is_some_and(|extension| extension == "safetensors");
    }
    if !has_weights {
        return not_a_model("the directory has no *.safetensors file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CATALOG;

    fn refusal(text: &str) -> String {
        resolve(CATALOG, text).unwrap_err().to_string()
    }

    #[test]
    fn a_name_is_found_and_a_slip_gets_the_nearest_one() {
        let name = "smollm2-135m-instruct";
        assert_eq!(resolve(CATALOG, name).unwrap(), Base::Named(name));
        for slip in ["smollm2-135m", "smolm2-135m-instruct", "SmolLM2-135M-Instruct"] {
            assert!(refusal(slip).contains("did you mean \"smollm2-135m-instruct\"?"), "{slip}");
        }
        let text = refusal("all-minilm-l6-v2");
        assert!(text.contains("cannot be a base model; base models are smollm2"), "{text}");
        let text = refusal("bert");
        assert!(
            !text.contains("did you mean") && text.contains("known are smollm2-135m-instruct"),
            "{text}"
        );
    }

    #[test]
    fn a_path_is_a_gguf_file_or_a_hugging_face_directory() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();

        fs::write(at("tiny.gguf"), b"GGUF and more").unwrap();
        assert_eq!(resolve(CATALOG, &at("tiny.gguf")).unwrap(), Base::Gguf(at("tiny.gguf").into()));
        fs::write(at("page.gguf"), b"<html>").unwrap();
        assert!(refusal(&at("page.gguf")).contains("does not begin with GGUF"));

        fs::create_dir(at("model")).unwrap();
        assert!(refusal(&at("model")).contains("no config.json"));
        fs::write(at("model/config.json"), b"{}").unwrap();
        assert!(refusal(&at("model")).contains("no *.safetensors"));
        fs::write(at("model/model.safetensors"), b"").unwrap();
        let found = resolve(CATALOG, &at("model")).unwrap();
        assert_eq!(found, Base::HuggingFaceDirectory(at("model").into()));
    }

    #[test]
    fn a_path_that_is_not_there_is_not_taken_for_a_name() {
        for text in ["models/nowhere", "./smollm2-135m-instruct", "missing.gguf"] {
            assert!(matches!(resolve(CATALOG, text), Err(HubError::NoSuchPath { .. })), "{text}");
        }
    }
}
