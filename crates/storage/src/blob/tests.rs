use super::*;

fn store() -> (tempfile::TempDir, BlobStore) {
    let home = tempfile::tempdir().unwrap();
    let store = BlobStore::open(home.path().join("blobs")).unwrap();
    (home, store)
}

#[test]
fn what_was_put_is_what_is_got() {
    let (_home, store) = store();
    let contents: Vec<Vec<u8>> =
        (0..20_usize).map(|n| (0..n * n * 37).map(|i| (i * n) as u8).collect()).collect();
    let digests: Vec<Digest> = contents.iter().map(|bytes| store.put(bytes).unwrap()).collect();
    for (content, digest) in contents.iter().zip(&digests) {
        assert_eq!(store.get(digest).unwrap(), *content);
        assert!(store.contains(digest));
    }
    let mut sorted = digests.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(store.digests().unwrap(), sorted);
}

#[test]
fn a_blob_lies_where_its_digest_says() {
    let (home, store) = store();
    let digest = store.put(b"hello").unwrap();
    // The BLAKE3 digest of `hello`, as the reference implementation prints it.
    let hex = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f";
    assert_eq!(digest.to_hex(), hex);
    let path = home.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
    assert_eq!(fs::read(path).unwrap(), b"hello");
}

#[test]
fn a_missing_blob_names_the_path_it_was_looked_for_at() {
    let (_home, store) = store();
    let digest = Digest::of(b"never stored");
    assert!(!store.contains(&digest));
    let error = store.get(&digest).unwrap_err();
    assert!(error.to_string().contains(&store.path(&digest).display().to_string()), "{error}");
}

#[test]
fn a_wrong_blob_is_refused_with_its_path_and_repaired_by_the_next_put() {
    let (_home, store) = store();
    let digest = store.put(b"right").unwrap();
    let path = store.path(&digest);
    for damage in [&b"wrong"[..], b"rig", b""] {
        fs::write(&path, damage).unwrap();
        let error = store.get(&digest).unwrap_err();
        assert!(
            matches!(&error, StorageError::BlobCorrupt { found, .. } if *found == Digest::of(damage))
        );
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        store.put(b"right").unwrap();
        assert_eq!(store.get(&digest).unwrap(), b"right");
    }
}

#[test]
fn torn_temporary_files_are_not_blobs() {
    let (home, store) = store();
    let digest = store.put(b"whole").unwrap();
    let shard = store.path(&digest).parent().unwrap().to_owned();
    let torn = format!("{}torn", atomic::TEMPORARY_PREFIX);
    fs::write(shard.join(&torn), b"who").unwrap();
    fs::write(home.path().join("blobs").join(&torn), b"who").unwrap();
    let reopened = BlobStore::open(home.path().join("blobs")).unwrap();
    assert_eq!(reopened.digests().unwrap(), [digest]);
    assert_eq!(reopened.get(&digest).unwrap(), b"whole");
}

#[test]
fn many_threads_may_put_the_same_blob() {
    let (_home, store) = store();
    let bytes = vec![7; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.put(&bytes).unwrap());
        }
    });
    assert_eq!(store.get(&Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(store.digests().unwrap().len(), 1);
}
