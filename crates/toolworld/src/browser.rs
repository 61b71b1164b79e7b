//! Sites that fail in various ways, and what gets past it: mostly the same everywhere, with
//! exceptions, and not for ever.

use understudy_ident::Timestamp;
use understudy_memory::{
    Access, Action, Catalogue, DeploymentItem, ErrorClass, ErrorReport, ErrorSignature, HealReply,
    HealRequest, Key, Kind, MemoryError, Tactic, Target, TargetKind, Tried, Written,
};

use crate::{Draw, catalogue::tool};

const SITES: [&str; 8] = [
    "https://shop.alpha.example/cart",
    "https://www.beta.example/search",
    "https://gamma.example",
    "https://app.delta.example/login",
    "https://epsilon.example/a",
    "https://zeta.example/b",
    "https://eta.example/c",
    "https://theta.example/d",
];

const ERRORS: [ErrorClass; 4] =
    [ErrorClass::NotVisible, ErrorClass::Timeout, ErrorClass::RateLimited, ErrorClass::NotFound];

const WAYS: [Way; 5] = [
    Way { tactic: Tactic::FallbackPath, tool: "page.scroll" },
    Way { tactic: Tactic::AlternativeTool, tool: "page.press" },
    Way { tactic: Tactic::RetryVariation, tool: "page.click" },
    Way { tactic: Tactic::FallbackPath, tool: "page.wait" },
    Way { tactic: Tactic::AlternativeTool, tool: "page.search" },
];

/// What gets past a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub tactic: Tactic,
    pub tool: &'static str,
}

/// The tools of a browsing agent.
pub fn browser_catalogue() -> Catalogue {
    let tools = [
        ("page.click", "click an element"),
        ("page.press", "press a key"),
        ("page.scroll", "scroll to an element"),
        ("page.wait", "wait for the page"),
        ("page.search", "search the page"),
    ];
    let tools = tools.map(|(name, says)| tool(name, Access::Write, says, &[]));
    Catalogue { agents: vec!["browser".to_owned()], tools: tools.to_vec(), ..Catalogue::default() }
}

/// How a site words a failure.
fn message(error: ErrorClass) -> &'static str {
    match error {
        ErrorClass::NotVisible => "element \"#buy-17\" is not visible",
        ErrorClass::Timeout => "timed out after 30000 ms",
        ErrorClass::RateLimited => "too many requests",
        _ => "no such element \"#next-3\"",
    }
}

/// As an agent would report it.
pub fn browser_error(error: ErrorClass, key: &Key) -> ErrorSignature {
    ErrorSignature::named(error, None, message(error), key)
}

/// All sites, and the truth about them.
#[derive(Debug, Clone)]
pub struct Browser {
    /// By site, then by error.
    truth: Vec<[Way; 4]>,
}

/// One failure that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Browsing {
    pub site: usize,
    pub error: usize,
}

impl Browser {
    /// One way for each error, and another one at every fourth corner.
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed, "browser");
        let common = [WAYS[0], WAYS[3], WAYS[2], WAYS[4]];
        let of_site = |draw: &mut Draw| {
            common.map(|way| if draw.chance(0.25) { *draw.pick(&WAYS) } else { way })
        };
        Self { truth: SITES.iter().map(|_| of_site(&mut draw)).collect() }
    }

    /// Some sites are rebuilt: what worked there works no more.
    pub fn rebuild(&mut self, sites: usize) {
        for ways in self.truth.iter_mut().take(sites) {
            for way in ways.iter_mut() {
                let at = WAYS.iter().position(|known| known == way).unwrap_or(0);
                *way = WAYS[(at + 1) % WAYS.len()];
            }
        }
    }

    pub fn meet(&self, draw: &mut Draw) -> Browsing {
        Browsing { site: draw.below(SITES.len()), error: draw.below(ERRORS.len()) }
    }

    pub fn works(&self, met: Browsing, way: Way) -> bool {
        self.truth[met.site][met.error] == way
    }

    /// What somebody who looked would do.
    pub fn truth(&self, met: Browsing) -> Way {
        self.truth[met.site][met.error]
    }

    pub fn request(&self, met: Browsing, tried: Vec<Tried>) -> HealRequest {
        HealRequest {
            goal: "put an item into the cart".to_owned(),
            agent: Some("browser".to_owned()),
            target: Target { kind: TargetKind::Site, key: SITES[met.site].to_owned() },
            action: Action { tool: "page.click".to_owned(), arg_keys: Vec::new() },
            error: ErrorReport {
                class: Some(ERRORS[met.error]),
                code: None,
                message: message(ERRORS[met.error]).to_owned(),
            },
            tried,
            limit: 3,
        }
    }

    /// The lesson somebody draws from having got past a failure.
    pub fn lesson(
        &self,
        met: Browsing,
        way: Way,
        catalogue: &Catalogue,
        key: &Key,
        now: Timestamp,
    ) -> Result<DeploymentItem, MemoryError> {
        let situation = "When `page.click` fails".to_owned();
        let strategy = match way.tactic {
            Tactic::RetryVariation => {
                format!("prefer calling `{}` again with other arguments.", way.tool)
            }
            _ => format!("prefer calling `{}` and go on from there.", way.tool),
        };
        let prefer = [way.tool];
        let written = Written {
            kind: Kind::Recovery,
            agent: Some("browser"),
            target: Some(SITES[met.site]),
            error: Some(browser_error(ERRORS[met.error], key)),
            situation: &situation,
            strategy: &strategy,
            prefer: &prefer,
            tactic: Some(way.tactic),
            ..Written::default()
        };
        DeploymentItem::written(&written, catalogue, key, now)
    }

    /// What an agent does that takes the first advice, or guesses where there is none.
    pub fn follow(&self, reply: &HealReply, draw: &mut Draw) -> Way {
        let advised = reply.candidates.first().and_then(|first| {
            let tool = first.tool.as_deref()?;
            WAYS.iter().find(|way| way.tactic == first.tactic && way.tool == tool)
        });
        advised.copied().unwrap_or_else(|| *draw.pick(&WAYS))
    }
}
