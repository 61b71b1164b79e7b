use understudy_manifest::{MemoryKind, MemoryManifest};

use super::*;
use crate::{Harm, InUse, ReleaseState, Status, provenance};

fn channel() -> TaskName {
    "memory-acme".parse().unwrap()
}

fn cut(content: &str) -> MemoryManifest {
    MemoryManifest {
        schema: MemoryManifest::SCHEMA,
        kind: MemoryKind::Memory,
        tenant: "acme".to_owned(),
        release: Digest::of(content.as_bytes()),
        lessons: [("mem_1".to_owned(), Digest::of(b"a lesson"))].into(),
        embedder: "hashing@1".to_owned(),
        renderer: "block@1".to_owned(),
        parent: None,
    }
}

impl Fixture {
    fn remembered(&self, content: &str) -> AdapterVersion {
        let adapter = self.registry.register_memory(&channel(), &cut(content), self.change());
        adapter.unwrap().record.version
    }
}

#[test]
fn a_memory_release_is_a_version_with_owner_reason_and_content_and_without_files() {
    let it = Fixture::new();
    let first = it.remembered("one");
    assert_eq!(first.to_string(), "memory-acme@1");
    assert_eq!(it.remembered("one"), first, "the same content is the same version");
    let two = it.registry.get(&it.remembered("two")).unwrap();
    assert_eq!((two.record.owner.as_str(), two.status), ("ada", Status::Registered));
    assert_eq!(two.record.generation, cut("two").release);
    let text = serde_json::to_string(&two).unwrap();
    assert!(text.contains(r#""kind":"memory""#), "{text}");
    assert_eq!(serde_json::from_str::<Adapter>(&text).unwrap(), two);
    assert!(!it.registry.directory(&first).exists());
    assert_eq!(
        (it.registry.tasks().unwrap(), it.registry.memories().unwrap()),
        (vec![], vec![channel()])
    );
    assert!(matches!(
        provenance(&two, &it.registry.directory(&first)),
        Err(RegistryError::NotWeights { .. })
    ));
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn lessons_and_weights_never_share_a_name() {
    let it = Fixture::new();
    it.register("weights");
    let refused = it.registry.register_memory(&task(), &cut("one"), it.change());
    assert!(matches!(refused, Err(RegistryError::OtherKind { .. })), "{refused:?}");
    it.remembered("one");
    let lineage = AdapterManifest { task: channel().to_string(), ..lineage() };
    let refused = it.registry.register(&channel(), &it.trained("weights"), &lineage, it.change());
    assert!(matches!(refused, Err(RegistryError::OtherKind { .. })), "{refused:?}");
}

#[test]
fn a_memory_release_goes_by_the_rules_of_every_release() {
    let it = Fixture::new();
    let first = it.remembered("one");
    let refused = it.registry.start_release(it.start_of(&first, Target::Base), it.change());
    assert!(matches!(refused, Err(RegistryError::NotAdmitted { .. })), "no report: {refused:?}");
    let report = report(&cut("one").release.to_hex(), true);
    it.registry.attach_report(&first, &report, it.change()).unwrap();
    let release = it.start(&first, Target::Base);
    let release = it.registry.promote(&release.id, release.revision, it.change()).unwrap();
    assert_eq!(it.registry.stable(&channel()).unwrap(), Some(Target::Adapter(first.clone())));
    let undone = it.registry.undo(&channel(), None, it.change()).unwrap().unwrap();
    assert_eq!((undone.id, undone.state), (release.id, ReleaseState::RolledBack));
    assert_eq!(it.registry.stable(&channel()).unwrap(), Some(Target::Base));
    // A lesson somebody asked to forget: no version that holds it comes back.
    it.registry.revoke(&first, Harm::PersonalData, InUse::RollBack, it.change()).unwrap();
    let refused = it.registry.start_release(it.start_of(&first, Target::Base), it.change());
    assert!(matches!(refused, Err(RegistryError::Revoked { .. })), "{refused:?}");
    it.registry.verify_audit(None).unwrap();
}
