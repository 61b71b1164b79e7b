use proptest::prelude::*;
use understudy_ident::Timestamp;

use super::*;
use crate::{
    Catalogue, CounterSettings, DeploymentItem, MemoryRelease, Retrieval, Standings, Written,
};

const SITES: [&str; 4] =
    ["https://shop.alpha.example/cart", "https://beta.example", "gamma.co.uk", "files-server"];
const MESSAGES: [&str; 3] =
    ["element \"#a\" is not visible", "timed out after 30000 ms", "frame \"x\" is not visible"];

fn key() -> Key {
    Key::from_bytes([5; 32])
}

fn item(site: &str, message: &str, now: Timestamp) -> DeploymentItem {
    let written = Written {
        target: Some(site),
        error: Some(ErrorSignature::of(message, None, &key())),
        situation: "When a click fails",
        strategy: "prefer to scroll first.",
        tactic: Some(Tactic::FallbackPath),
        ..Written::default()
    };
    DeploymentItem::written(&written, &Catalogue::default(), &key(), now).unwrap()
}

fn request(site: &str, message: &str) -> HealRequest {
    HealRequest {
        goal: String::new(),
        agent: None,
        target: Target { kind: TargetKind::Site, key: site.to_owned() },
        action: Action { tool: "page.click".to_owned(), arg_keys: Vec::new() },
        error: ErrorReport { class: None, code: None, message: message.to_owned() },
        tried: Vec::new(),
        limit: 100,
    }
}

fn ask(items: &[DeploymentItem], request: &HealRequest, active: bool) -> HealReply {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let release = MemoryRelease {
        items: items.to_vec(),
        core: Vec::new(),
        retrieval: Retrieval::default(),
        embedder: "none".to_owned(),
        parent: None,
    };
    let shelf = Shelf::of_release(release.digest(), &release, None, &Catalogue::default()).unwrap();
    let standing = Standing {
        active,
        validated: false,
        effect: 0.0,
        harms: false,
        recency: 1.0,
        probation: false,
        healed: 0.0,
        unhealed: 0.0,
        last_seen: None,
    };
    let standings = Standings(items.iter().map(|item| (item.id.clone(), standing)).collect());
    let library = Library {
        deployment: &shelf,
        user: None,
        standings: &standings,
        embedder: None,
        intents: None,
        settings: &Retrieval::default(),
        counters: &CounterSettings::default(),
        key: &key(),
    };
    library.heal(request, now).unwrap()
}

proptest! {
    /// The whole matrix, over stores of any kind.
    #[test]
    fn a_candidate_has_the_tier_of_its_cell_and_strangers_are_never_offered(
        known in prop::collection::vec((0_usize..4, 0_usize..3), 0..12),
        asked in (0_usize..4, 0_usize..3),
    ) {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let items: Vec<DeploymentItem> =
            known.iter().map(|(site, message)| item(SITES[*site], MESSAGES[*message], now)).collect();
        let reply = ask(&items, &request(SITES[asked.0], MESSAGES[asked.1]), true);
        let cell = |(site, message): &(usize, usize)| match (*site == asked.0, *message == asked.1) {
            (true, true) => Some((Tier::High, Mode::CopySolution)),
            (true, false) => Some((Tier::Medium, Mode::ExtractPattern)),
            (false, true) => Some((Tier::Low, Mode::GeneralApproach)),
            (false, false) => None,
        };
        for (item, place) in items.iter().zip(&known) {
            let offered = reply.candidates.iter().find(|candidate| candidate.id == item.id);
            prop_assert_eq!(offered.map(|candidate| (candidate.tier, candidate.mode)), cell(place));
        }
        let best = known.iter().filter_map(cell).map(|(tier, _)| tier).min();
        prop_assert_eq!(reply.tier, best.unwrap_or(Tier::None));
        prop_assert!(reply.candidates.is_sorted_by_key(|candidate| candidate.tier));
        prop_assert_eq!(reply.escalate, best.is_none());
    }
}

#[test]
fn suspended_lessons_are_not_offered_and_tried_ways_neither() {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let items = [item(SITES[0], MESSAGES[0], now)];
    let asked = request(SITES[0], MESSAGES[0]);
    assert_eq!(ask(&items, &asked, true).candidates.len(), 1);
    assert!(ask(&items, &asked, false).escalate);
    let tried = vec![Tried { tactic: Tactic::FallbackPath, tool: "page.scroll".to_owned() }];
    let again = ask(&items, &HealRequest { tried, ..asked }, true);
    assert!(again.candidates.is_empty() && again.escalate);
}

#[test]
fn a_target_is_its_registrable_domain_or_its_name() {
    let same = |a: &str, b: &str| target_name(a, &key()) == target_name(b, &key());
    assert!(same("https://Shop.Alpha.example/cart?id=7", "http://www.alpha.example:8080"));
    assert!(same("a.gamma.co.uk", "https://gamma.co.uk/x"));
    assert!(!same("https://alpha.example", "https://beta.example"));
    assert!(!same("alpha.co.uk", "beta.co.uk"));
    assert!(!same("10.0.0.1", "10.0.0.2") && same("Files-Server", "files-server"));
}

#[test]
fn the_same_error_is_the_same_words_around_other_values() {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let items = [item(SITES[0], "element \"#buy\" is not visible", now)];
    let tier_of = |message: &str| ask(&items, &request(SITES[1], message), true).tier;
    assert_eq!(tier_of("element \"#other-17\" is not visible"), Tier::Low);
    assert_eq!(tier_of("button \"#other-17\" is not visible"), Tier::None);
}
