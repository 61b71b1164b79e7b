//! What users come with: invented people with invented orders.

use crate::Draw;

/// A user's request, and what would be right.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub session: String,
    pub user: String,
    pub job: Job,
    /// In the user's words.
    pub goal: String,
    pub customer: String,
    pub order: String,
    /// In cents.
    pub paid: u64,
    /// The carrier whose tracking never answers.
    pub slow_carrier: bool,
    pub address: String,
    pub stock: u64,
}

/// The kinds of request, which an agent can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    Refund,
    Track,
    Address,
    Stock,
}

impl Job {
    pub const ALL: [Self; 4] = [Self::Refund, Self::Track, Self::Address, Self::Stock];

    pub fn intent(self) -> &'static str {
        match self {
            Self::Refund => "refund-order",
            Self::Track => "track-parcel",
            Self::Address => "change-address",
            Self::Stock => "reserve-stock",
        }
    }
}

const FIRST: [&str; 12] = [
    "Ada", "Grace", "Edsger", "Barbara", "Niklaus", "Frances", "Tony", "Radia", "Ken", "Adele",
    "Leslie", "Margaret",
];
const LAST: [&str; 12] = [
    "Lovelace", "Hopper", "Dijkstra", "Liskov", "Wirth", "Allen", "Hoare", "Perlman", "Thompson",
    "Goldberg", "Lamport", "Hamilton",
];

impl Request {
    /// The `n`-th request of a seed.
    pub fn draw(seed: u64, n: u64) -> Self {
        let mut draw = Draw::new(seed, &format!("request {n}"));
        let job = Job::ALL[draw.below(4)];
        let customer = format!("{} {}", draw.pick(&FIRST), draw.pick(&LAST));
        let order = format!("ORD-{:06}", draw.below(1_000_000));
        let paid = 500 + draw.below(40_000) as u64;
        let slow_carrier = draw.chance(0.7);
        let address = format!("{} Babbage Street, Greyhaven", 1 + draw.below(900));
        let stock = 1 + draw.below(40) as u64;
        let user = format!("{}@example.org", customer.to_lowercase().replace(' ', "."));
        let said = match job {
            Job::Refund => ["please refund order", "I want a refund for my order"],
            Job::Track => ["where is the parcel of order", "please track the parcel for order"],
            Job::Address => ["please change the address of order", "new address for my order"],
            Job::Stock => {
                ["please reserve the stock for order", "reserve every item in stock for order"]
            }
        };
        let goal = format!("Hello, this is {customer}: {} {order}.", draw.pick(&said));
        let session = format!("session-{seed}-{n}");
        Self { session, user, job, goal, customer, order, paid, slow_carrier, address, stock }
    }
}
