//! Releases of memory: immutable directories named by their content, and what differs between two.
//!
//! A release is what a canary compares and a rollback returns to, as an adapter version is: nothing
//! in it is ever changed, and going back is another row in a table of pointers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use understudy_ident::{Digest, Timestamp};
use understudy_inference::{Embedder, HashingEmbedder};
use understudy_manifest::{MemoryKind, MemoryManifest};
use understudy_storage::{StorageError, atomic};

use crate::{
    By, DeploymentItem, DeploymentStore, DeploymentText, Item, MemoryError, MemoryId, Operation,
    Retrieval, Status, TenantId, error::AttemptIo, render,
};

/// The lessons that are served together, and how they are found and shown.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryRelease {
    /// Sorted by id.
    pub items: Vec<DeploymentItem>,
    /// Always shown, in this order, so that a prompt's beginning stays the same.
    pub core: Vec<MemoryId>,
    pub retrieval: Retrieval,
    /// The vectors' name; another embedder finds other lessons.
    pub embedder: String,
    pub parent: Option<Digest>,
}

/// `manifest.json` of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseManifest {
    pub schema: u32,
    /// Of everything below but `cut_at` and `parent`: equal content has one name.
    pub digest: Digest,
    /// Each revision by its own digest.
    pub items: BTreeMap<MemoryId, Revision>,
    pub core: Vec<MemoryId>,
    pub retrieval: Retrieval,
    pub embedder: String,
    pub renderer: String,
    pub parent: Option<Digest>,
    pub cut_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub rev: u32,
    pub digest: Digest,
}

/// What a release has that another lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReleaseDiff {
    pub added: Vec<MemoryId>,
    pub removed: Vec<MemoryId>,
    pub revised: Vec<MemoryId>,
    /// How lessons are found or shown is not the same.
    pub settings: bool,
}

impl ReleaseDiff {
    pub fn changes(&self) -> usize {
        self.added.len() + self.removed.len() + self.revised.len()
    }
}

impl MemoryRelease {
    pub const MANIFEST: &'static str = "manifest.json";
    const ITEMS: &'static str = "items.jsonl";

    /// What finds its lessons: the preferred one, unless it was cut for spelling, which needs no
    /// model and is always at hand.
    pub fn embedder(&self, preferred: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        if self.embedder != preferred.name() && self.embedder == HashingEmbedder.name() {
            Arc::new(HashingEmbedder)
        } else {
            preferred
        }
    }

    pub fn digest(&self) -> Digest {
        let revisions: Vec<String> =
            self.items.iter().map(|item| format!("{} {}", item.id, item.digest())).collect();
        let core: Vec<&str> = self.core.iter().map(MemoryId::as_str).collect();
        let retrieval = serde_json::to_string(&self.retrieval).unwrap_or_default();
        Digest::of_parts([
            revisions.join("\n").as_bytes(),
            core.join("\n").as_bytes(),
            retrieval.as_bytes(),
            self.embedder.as_bytes(),
            render::RENDERER.as_bytes(),
        ])
    }

    pub fn diff(&self, before: &Self) -> ReleaseDiff {
        let of = |release: &Self| -> BTreeMap<MemoryId, Digest> {
            release.items.iter().map(|item| (item.id.clone(), item.digest())).collect()
        };
        let (old, new) = (of(before), of(self));
        let mut diff = ReleaseDiff {
            settings: self.retrieval != before.retrieval
                || self.embedder != before.embedder
                || self.core != before.core,
            ..ReleaseDiff::default()
        };
        for (id, digest) in &new {
            match old.get(id) {
                None => diff.added.push(id.clone()),
                Some(before) if before != digest => diff.revised.push(id.clone()),
                Some(_) => {}
            }
        }
        diff.removed = old.into_keys().filter(|id| !new.contains_key(id)).collect();
        diff
    }

    /// As a registry keeps it: by digests, without a word of any lesson.
    pub fn registered(&self, tenant: &TenantId) -> MemoryManifest {
        let lesson = |item: &DeploymentItem| (item.id.to_string(), item.digest());
        MemoryManifest {
            schema: MemoryManifest::SCHEMA,
            kind: MemoryKind::Memory,
            tenant: tenant.to_string(),
            release: self.digest(),
            lessons: self.items.iter().map(lesson).collect(),
            embedder: self.embedder.clone(),
            renderer: render::RENDERER.to_owned(),
            parent: self.parent,
        }
    }

    pub(crate) fn without(&self, id: &MemoryId) -> Self {
        let mut smaller = self.clone();
        smaller.items.retain(|item| item.id != *id);
        smaller.core.retain(|core| core != id);
        // The parent held it too, and is gone.
        smaller.parent = None;
        smaller
    }
}

/// The releases of one tenant.
#[derive(Debug, Clone)]
pub struct Releases {
    directory: PathBuf,
}

impl Releases {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes a release, durably, and returns its name. Equal content is written once.
    pub fn cut(&self, release: &MemoryRelease, at: Timestamp) -> Result<Digest, MemoryError> {
        let digest = release.digest();
        let place = self.place(&digest);
        if place.is_dir() {
            self.read(&digest)?;
            return Ok(digest);
        }
        atomic::create_dir(&self.directory)?;
        let staged = self.directory.join(format!("{}{}", atomic::TEMPORARY_PREFIX, digest.short()));
        if staged.exists() {
            fs::remove_dir_all(&staged).attempt("clear", &staged)?;
        }
        fs::create_dir(&staged).attempt("create directory", &staged)?;
        let mut lines = String::new();
        for item in &release.items {
            lines += &serde_json::to_string(item)?;
            lines.push('\n');
        }
        let path = staged.join(MemoryRelease::ITEMS);
        fs::write(&path, lines).attempt("write", &path)?;
        let path = staged.join(MemoryRelease::MANIFEST);
        let manifest = serde_json::to_string_pretty(&manifest(release, digest, at))?;
        fs::write(&path, manifest).attempt("write", &path)?;
        match atomic::publish_dir(&staged, &place) {
            // Somebody else cut the same content first.
            Err(StorageError::AlreadyPublished { .. }) => {
                fs::remove_dir_all(&staged).attempt("clear", &staged)?;
            }
            published => published?,
        }
        Ok(digest)
    }

    /// Reads a release, and checks that it is what its name says.
    pub fn read(&self, digest: &Digest) -> Result<MemoryRelease, MemoryError> {
        let place = self.place(digest);
        if !place.is_dir() {
            return Err(MemoryError::UnknownRelease { text: digest.to_string() });
        }
        let manifest = self.manifest(digest)?;
        let path = place.join(MemoryRelease::ITEMS);
        let text = fs::read_to_string(&path).attempt("read", &path)?;
        let items = text.lines().map(Item::<DeploymentText>::restored).collect::<Result<_, _>>()?;
        let ReleaseManifest { core, retrieval, embedder, parent, .. } = manifest;
        let release = MemoryRelease { items, core, retrieval, embedder, parent };
        let found = release.digest();
        if found != *digest {
            let expected = *digest;
            return Err(MemoryError::Damaged { directory: place, expected, found });
        }
        Ok(release)
    }

    pub fn manifest(&self, digest: &Digest) -> Result<ReleaseManifest, MemoryError> {
        let path = self.place(digest).join(MemoryRelease::MANIFEST);
        let text = fs::read_to_string(&path).attempt("read", &path)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Every release that is here, sorted by name.
    pub fn list(&self) -> Result<Vec<Digest>, MemoryError> {
        if !self.directory.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).attempt("list", &self.directory)? {
            let name = entry.attempt("list", &self.directory)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The release whose name begins so; an error when there is none or several.
    pub fn find(&self, text: &str) -> Result<Digest, MemoryError> {
        let all = self.list()?;
        let mut matching = all.into_iter().filter(|digest| digest.to_hex().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(digest), None) if text.len() >= 4 => Ok(digest),
            (Some(_), _) => Err(MemoryError::AmbiguousRelease { text: text.to_owned() }),
            (None, _) => Err(MemoryError::UnknownRelease { text: text.to_owned() }),
        }
    }

    pub fn directory(&self, digest: &Digest) -> PathBuf {
        self.place(digest)
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), MemoryError> {
        let place = self.place(digest);
        for file in [MemoryRelease::ITEMS, MemoryRelease::MANIFEST] {
            crate::root::shred(&place.join(file))?;
        }
        fs::remove_dir_all(&place).attempt("delete", &place)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        Path::new(&self.directory).join(digest.to_hex())
    }
}

fn manifest(release: &MemoryRelease, digest: Digest, cut_at: Timestamp) -> ReleaseManifest {
    let revision = |item: &DeploymentItem| Revision { rev: item.rev, digest: item.digest() };
    ReleaseManifest {
        schema: 1,
        digest,
        items: release.items.iter().map(|item| (item.id.clone(), revision(item))).collect(),
        core: release.core.clone(),
        retrieval: release.retrieval.clone(),
        embedder: release.embedder.clone(),
        renderer: render::RENDERER.to_owned(),
        parent: release.parent,
        cut_at,
    }
}

/// What to put into the next release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only these validated lessons; all of them when empty.
    pub only: Vec<MemoryId>,
    pub core: Vec<MemoryId>,
}

impl DeploymentStore {
    /// Cuts a release of everything that is active and of what was validated since, and serves it.
    pub fn release(
        &self,
        releases: &Releases,
        embedder: &str,
        choice: &Choice,
        by: &By,
    ) -> Result<(Digest, ReleaseDiff), MemoryError> {
        let (release, diff) = self.next_release(releases, embedder, choice, by)?;
        let digest = releases.cut(&release, by.at)?;
        self.serve(releases, Some(&digest), by)?;
        Ok((digest, diff))
    }

    /// Makes a release what every session meets; what was validated in it is active from then on.
    /// Serving what serves already changes nothing.
    pub fn serve(
        &self,
        releases: &Releases,
        release: Option<&Digest>,
        by: &By,
    ) -> Result<(), MemoryError> {
        let read = release.map(|digest| releases.read(digest)).transpose()?;
        for item in read.iter().flat_map(|release| &release.items) {
            if self.get(&item.id, by.at)?.status == Status::Validated {
                self.operate(Some(&item.id), &Operation::Activate, None, by)?;
            }
        }
        if self.releases()?.first() == Some(&release.copied()) {
            return Ok(());
        }
        self.point(release, by)
    }

    /// Suspends what a candidate brought that was taken off: the lessons that nothing else serves.
    /// They wait for a person, and the next release goes without them.
    pub fn condemn(
        &self,
        releases: &Releases,
        candidate: &Digest,
        by: &By,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let serving = self.releases()?.into_iter().next().flatten();
        let serving = serving.map(|digest| releases.read(&digest)).transpose()?;
        let serves = |id: &MemoryId| {
            serving.as_ref().is_some_and(|release| release.items.iter().any(|item| item.id == *id))
        };
        let mut suspended = Vec::new();
        for item in releases.read(candidate)?.items {
            let status = self.get(&item.id, by.at)?.status;
            if !serves(&item.id) && matches!(status, Status::Validated | Status::Active) {
                self.operate(Some(&item.id), &Operation::Suspend, None, by)?;
                suspended.push(item.id);
            }
        }
        Ok(suspended)
    }

    /// What [`Self::release`] would cut.
    pub fn next_release(
        &self,
        releases: &Releases,
        embedder: &str,
        choice: &Choice,
        by: &By,
    ) -> Result<(MemoryRelease, ReleaseDiff), MemoryError> {
        let settings = self.settings();
        let parent = self.releases()?.into_iter().next().flatten();
        let before = parent.map(|digest| releases.read(&digest)).transpose()?;
        for id in &choice.only {
            let status = self.get(id, by.at)?.status;
            if !matches!(status, Status::Validated | Status::Active) {
                let (op, id) = ("release", id.clone());
                return Err(MemoryError::WrongStatus { op, id, status });
            }
        }
        let items = self.in_force(choice, by.at)?;
        if let Some(id) = choice.core.iter().find(|id| !items.iter().any(|item| item.id == **id)) {
            return Err(MemoryError::Unknown { id: (*id).clone() });
        }
        if choice.core.len() > settings.caps.core {
            let (key, why) = ("caps.core", "allows fewer lessons that are always shown");
            return Err(MemoryError::Setting { key, why });
        }
        let release = MemoryRelease {
            items,
            core: choice.core.clone(),
            retrieval: settings.retrieval.clone(),
            embedder: embedder.to_owned(),
            parent,
        };
        let empty = || MemoryRelease { items: Vec::new(), core: Vec::new(), ..release.clone() };
        let diff = release.diff(&before.unwrap_or_else(empty));
        let (changed, limit) = (diff.changes(), settings.caps.per_release);
        if changed > limit {
            return Err(MemoryError::TooMuchAtOnce { changed, limit });
        }
        self.fit_caps(&release.items, &diff.added, by.at)?;
        Ok((release, diff))
    }

    /// What is active, and of what was validated what is chosen; without those that another of them
    /// takes the place of.
    fn in_force(
        &self,
        choice: &Choice,
        now: Timestamp,
    ) -> Result<Vec<DeploymentItem>, MemoryError> {
        let chosen = |id: &MemoryId| choice.only.is_empty() || choice.only.contains(id);
        let mut all = self.all(now)?;
        all.retain(|kept| match kept.status {
            Status::Active => true,
            Status::Validated => chosen(&kept.item.id),
            Status::Proposed | Status::Suspended | Status::Retired => false,
        });
        let replaced: BTreeSet<MemoryId> =
            all.iter().flat_map(|kept| kept.item.supersedes.iter().cloned()).collect();
        let mut items: Vec<DeploymentItem> = all.into_iter().map(|kept| kept.item).collect();
        items.retain(|item| !replaced.contains(&item.id));
        items.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(items)
    }

    /// Serves what served before, or any release that is still here; one row is written.
    pub fn roll_back(
        &self,
        releases: &Releases,
        to: Option<&Digest>,
        by: &By,
    ) -> Result<Option<Digest>, MemoryError> {
        let history = self.releases()?;
        let target = if let Some(digest) = to {
            Some(*digest)
        } else {
            let current = history.first().ok_or(MemoryError::NothingBefore)?;
            // Before the first release, nothing was served.
            history.iter().skip(1).find(|before| *before != current).copied().flatten()
        };
        if let Some(digest) = &target {
            // Never to something damaged or forgotten.
            releases.read(digest)?;
        }
        self.point(target.as_ref(), by)?;
        Ok(target)
    }

    /// Serves no memory at all, until something is released or rolled back to.
    pub fn withdraw(&self, by: &By) -> Result<(), MemoryError> {
        self.point(None, by)
    }
}
