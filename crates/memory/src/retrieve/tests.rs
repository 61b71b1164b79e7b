use proptest::prelude::*;
use understudy_inference::HashingEmbedder;

use super::*;
use crate::{
    Access, Caps, Catalogue, DeploymentItem, Intent, Kept, Kind, MemoryRelease, Status, ToolSchema,
    UserItem, Written, estimated_tokens,
};

fn catalogue() -> Catalogue {
    let tool = |(name, description): (&str, &str)| ToolSchema {
        name: name.to_owned(),
        description: description.to_owned(),
        access: Access::Read,
        target: None,
        target_argument: None,
        arguments: Vec::new(),
    };
    let intent = |(name, description): (&str, &str)| Intent {
        name: name.to_owned(),
        description: description.to_owned(),
        examples: Vec::new(),
        excluded: false,
    };
    Catalogue {
        agents: vec!["desk".to_owned(), "shop".to_owned()],
        tools: [
            ("orders.find", "find an order"),
            ("refunds.quote", "quote a refund"),
            ("parcels.track", "where a parcel is"),
        ]
        .map(tool)
        .to_vec(),
        intents: [("refund", "give money back for an order"), ("track", "where a parcel is")]
            .map(intent)
            .to_vec(),
        ..Catalogue::default()
    }
}

struct Stand {
    catalogue: Catalogue,
    kept: Vec<Kept<crate::DeploymentText>>,
    own: Vec<Kept<crate::UserText>>,
    core: Vec<MemoryId>,
    settings: Retrieval,
    counters: CounterSettings,
    now: Timestamp,
}

fn kept<T>(item: crate::Item<T>, now: Timestamp) -> Kept<T> {
    let counters = crate::Counters::default();
    Kept {
        item,
        status: Status::Active,
        since: now,
        counters,
        effect: crate::Effect::of(&counters, 0.9),
        last_used: None,
        last_confirmed: None,
        conflicts_with: std::collections::BTreeSet::new(),
        kept_apart_from: std::collections::BTreeSet::new(),
        superseded_by: std::collections::BTreeSet::new(),
        rescored: None,
    }
}

impl Stand {
    fn new() -> Self {
        let counters = CounterSettings {
            control_share: 0.0,
            probation_share: 0.0,
            ..CounterSettings::default()
        };
        Self {
            catalogue: catalogue(),
            kept: Vec::new(),
            own: Vec::new(),
            core: Vec::new(),
            settings: Retrieval::default(),
            counters,
            now: Timestamp::from_second(1_900_000_000).unwrap(),
        }
    }

    fn add(&mut self, intent: &str, tools: &[&str], strategy: &str) -> MemoryId {
        let written = Written {
            agent: Some("desk"),
            intent: Some(intent),
            tools,
            situation: "When a task of this kind begins",
            strategy,
            ..Written::default()
        };
        let key = Key::from_bytes([3; 32]);
        let item = DeploymentItem::written(&written, &self.catalogue, &key, self.now).unwrap();
        let id = item.id.clone();
        self.kept.push(kept(item, self.now));
        id
    }

    fn ask(&self, query: &Query<'_>, tokens: usize) -> (Retrieved, Vec<Considered>) {
        self.ask_by(&HashingEmbedder, query, tokens)
    }

    fn ask_by(
        &self,
        embedder: &dyn Embedder,
        query: &Query<'_>,
        tokens: usize,
    ) -> (Retrieved, Vec<Considered>) {
        let items: Vec<DeploymentItem> = self.kept.iter().map(|k| k.item.clone()).collect();
        let release = MemoryRelease {
            items,
            core: self.core.clone(),
            retrieval: self.settings.clone(),
            embedder: embedder.name().to_owned(),
            parent: None,
        };
        let shelf =
            Shelf::of_release(release.digest(), &release, Some(embedder), &self.catalogue).unwrap();
        let own = Shelf::of_user(&self.own, Some(embedder), &self.catalogue).unwrap();
        let standings = Standings::of(&self.kept, &self.counters, self.now).and(Standings::of(
            &self.own,
            &self.counters,
            self.now,
        ));
        let library = Library {
            deployment: &shelf,
            user: Some(&own),
            standings: &standings,
            embedder: Some(embedder),
            intents: Some(&Intents::new(&self.catalogue, embedder).unwrap()),
            // What the file says by now; the release says what was evaluated.
            settings: &Retrieval::default(),
            counters: &self.counters,
            key: &Key::from_bytes([3; 32]),
        };
        library.explain(query, Room { tokens, count: &estimated_tokens }, self.now).unwrap()
    }
}

fn query<'a>() -> Query<'a> {
    Query {
        goal: "I want my money back for this order",
        agent: Some("desk"),
        tools: vec!["orders.find", "refunds.quote", "parcels.track"],
        session: "s",
        ..Query::default()
    }
}

fn decision(all: &[Considered], id: &MemoryId) -> Decision {
    all.iter().find(|considered| considered.id == *id).unwrap().decision
}

/// Takes every text to mean the same.
#[derive(Debug)]
struct Same;

impl Embedder for Same {
    fn name(&self) -> &'static str {
        "same"
    }

    fn dimensions(&self) -> usize {
        1
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, understudy_inference::InferenceError> {
        Ok(vec![vec![1.0]; texts.len()])
    }
}

#[test]
fn between_what_means_the_same_a_name_decides_and_no_other_word() {
    let mut stand = Stand::new();
    let ids = [
        stand.add("refund", &["orders.find"], "prefer `orders.find` first."),
        stand.add("refund", &["refunds.quote"], "prefer `refunds.quote` first."),
    ];
    let scores = |goal: &str| {
        let (_, all) = stand.ask_by(&Same, &Query { goal, ..query() }, 512);
        ids.clone().map(|id| all.iter().find(|one| one.id == id).unwrap().score)
    };
    let [other, named] = scores("do this with refunds.quote");
    assert!(named > other, "{named} {other}");
    // The words `find an order` are those of the other one's tool.
    let [first, second] = scores("please find an order");
    assert_eq!(first, second);
    let (_, all) = stand.ask(&Query { goal: "please find an order", ..query() }, 512);
    assert!(all[0].by_words < all[1].by_words || all[1].by_words.is_none(), "{all:?}");
    assert!(all[0].score > all[1].score, "by spelling, words tell: {all:?}");
}

#[test]
fn what_fits_is_shown_and_everything_else_says_why_not() {
    let mut stand = Stand::new();
    let right = stand.add("refund", &["refunds.quote"], "prefer `refunds.quote` first.");
    let other = stand.add("track", &["parcels.track"], "prefer `parcels.track` early.");
    let suspended = stand.add("refund", &["orders.find"], "prefer `orders.find` early.");
    stand.kept[2].status = Status::Suspended;
    let (shown, all) = stand.ask(&query(), 512);
    assert_eq!(shown.shown_ids(), std::slice::from_ref(&right));
    assert_eq!(shown.ids_header(), format!("{right}@1"));
    let block = shown.block.unwrap();
    assert!(block.starts_with("<memory release=\"") && block.ends_with("</memory>"));
    assert!(
        block.contains("- (m1) When a task of this kind begins, prefer `refunds.quote` first.")
    );
    assert_eq!(decision(&all, &other), Decision::NotRelevant);
    assert_eq!(decision(&all, &suspended), Decision::NotActive);

    let fewer = Query { tools: vec!["orders.find"], ..query() };
    assert_eq!(decision(&stand.ask(&fewer, 512).1, &right), Decision::ToolNotAvailable);
    let shop = Query { agent: Some("shop"), ..query() };
    assert_eq!(decision(&stand.ask(&shop, 512).1, &right), Decision::OtherAgent);
    let off = Query { off: true, ..query() };
    let (nothing, all) = stand.ask(&off, 512);
    assert_eq!((nothing.block, decision(&all, &right)), (None, Decision::SwitchedOff));
    let weather = Query { goal: "what is the weather like", ..query() };
    assert_eq!(stand.ask(&weather, 512).0.block, None);
    stand.kept[0].item.expires_at = Some(stand.now);
    assert_eq!(decision(&stand.ask(&query(), 512).1, &right), Decision::Expired);
}

#[test]
fn the_core_comes_first_and_a_users_own_last() {
    let mut stand = Stand::new();
    let tracked = stand.add("track", &["parcels.track"], "prefer `parcels.track` early.");
    let right = stand.add("refund", &["refunds.quote"], "prefer `refunds.quote` first.");
    stand.core = vec![tracked.clone()];
    let written = Written {
        kind: Kind::Preference,
        situation: "When money is given back for an order",
        strategy: "answer with a table, as Ada likes it.",
        ..Written::default()
    };
    let key = Key::from_bytes([3; 32]);
    let own = UserItem::written(&written, &stand.catalogue, &key, stand.now).unwrap();
    stand.own.push(kept(own.clone(), stand.now));
    // What a user said is followed from the first request on; lessons for all are on probation.
    stand.counters.probation_share = 0.0;
    let (shown, all) = stand.ask(&query(), 512);
    assert_eq!(shown.shown_ids(), [tracked.clone(), right, own.id]);
    assert_eq!(decision(&all, &tracked), Decision::Core);
    stand.counters.probation_share = 1.0;
    let (shown, _) = stand.ask(&query(), 512);
    assert_eq!((shown.shown.len(), shown.withheld.len()), (1, 2));
    // Nor is it withheld from a session that gets nothing else.
    stand.counters.control_share = 1.0;
    let (shown, _) = stand.ask(&query(), 512);
    assert!(shown.control && shown.block.is_some());
    assert_eq!((shown.shown_ids(), shown.withheld.len()), (vec![stand.own[0].item.id.clone()], 2));
}

#[test]
fn shares_of_sessions_go_without_and_always_the_same_ones() {
    let mut stand = Stand::new();
    stand.add("refund", &["refunds.quote"], "prefer `refunds.quote` first.");
    stand.counters.control_share = 0.05;
    stand.counters.probation_share = 0.5;
    let (mut control, mut probation) = (0, 0);
    for n in 0..2_000 {
        let session = format!("s{n}");
        let query = Query { session: &session, ..query() };
        let (first, second) = (stand.ask(&query, 512).0, stand.ask(&query, 512).0);
        assert_eq!(first, second);
        control += u32::from(first.control);
        probation += u32::from(!first.control && !first.withheld.is_empty());
    }
    // Of 2000, within four standard deviations.
    assert!((61..=139).contains(&control), "{control}");
    assert!((860..=1040).contains(&probation), "{probation}");
}

#[test]
fn no_more_than_k_and_the_second_says_something_new() {
    let mut stand = Stand::new();
    for n in ["first", "second", "third", "fourth"] {
        stand.add("refund", &["refunds.quote"], &format!("prefer the {n} `refunds.quote`."));
    }
    let different = stand.add("refund", &["orders.find"], "prefer `orders.find` early.");
    stand.settings.k = 2;
    let (shown, all) = stand.ask(&query(), 512);
    assert_eq!(shown.shown.len(), 2);
    assert!(shown.shown_ids().contains(&different), "{shown:?}");
    assert!(all.iter().any(|considered| considered.decision == Decision::Outranked));
    assert_eq!(Caps::default().core, 5);
}

/// Lines shown within so many tokens, of which none may be exceeded.
fn within(tokens: usize, lines: usize, k: usize) -> Retrieved {
    let mut stand = Stand::new();
    stand.settings.k = k;
    for n in ["first", "second", "third", "fourth"].iter().take(lines) {
        let text = format!("prefer the {n} `refunds.quote` and check the result before you go on.");
        stand.add("refund", &["refunds.quote"], &text);
    }
    let (retrieved, _) = stand.ask(&query(), tokens);
    let used = retrieved.block.as_deref().map_or(0, estimated_tokens);
    assert!(used <= tokens, "{used} of {tokens}");
    retrieved
}

#[test]
fn what_ends_a_line_counts_as_well() {
    // Without the ends of lines three of them took 89.
    assert!(within(88, 3, 3).tokens <= 88);
}

proptest! {
    #[test]
    fn the_budget_is_never_exceeded(tokens in 0_usize..200, lines in 1_usize..5, k in 1_usize..=5) {
        let retrieved = within(tokens, lines, k);
        prop_assert!(retrieved.tokens <= tokens && retrieved.shown.len() <= k);
        prop_assert_eq!(retrieved.block.is_none(), retrieved.shown.is_empty());
    }
}

#[test]
fn a_release_is_found_as_it_was_cut_whatever_the_settings_say_by_now() {
    let mut stand = Stand::new();
    let id = stand.add("refund", &["orders.find"], "prefer calling `orders.find` first.");
    let asked = Query { goal: "a poem about the sea", ..query() };
    let mut shown_at = |threshold: f64| {
        stand.settings.threshold = threshold;
        stand.ask(&asked, 500).0.shown_ids()
    };
    assert_eq!(shown_at(0.0), [id]);
    assert!(shown_at(0.99).is_empty());
}

#[test]
fn a_small_model_gets_less_advice_unless_somebody_says_otherwise() {
    let mut settings = Retrieval::default();
    assert_eq!(settings.token_budget(Some(32_768)), 512);
    assert_eq!(settings.token_budget(Some(8_192)), 96);
    assert_eq!(settings.token_budget(Some(1_000)), 50, "and never over its share");
    assert_eq!(settings.token_budget(None), 96);
    settings.small_model = Some(false);
    assert_eq!(settings.token_budget(Some(8_192)), 409);
    // As files and releases from before said it.
    let before: Retrieval = serde_json::from_str(r#"{"small_model": true}"#).unwrap();
    assert_eq!(before.token_budget(Some(32_768)), 96);
}
