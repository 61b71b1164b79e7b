//! `understudy memory …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Learn lessons from the journal's trajectories and propose them
    #[command(after_help = "Examples:\n  understudy memory learn --dry-run\n  \
        understudy memory learn --task support-triage --owner ada --reason 'weekly'\n  \
        understudy memory learn --runs 4 --requests 60 --student desk@3\n  \
        understudy memory learn --runs 4 --suite desk-dev --task desk\n  \
        understudy memory learn --runs 4 --environment desk --mock-engine --dry-run\n  \
        understudy memory learn --runs 4 --attempts attempts.jsonl\n\n\
        With --runs, the newest recorded requests are attempted again, by the student so often and\n\
        once by the configured teacher: reads are answered from the recording, writes only seem to\n\
        happen, and a run that reads what was never recorded teaches nothing. What they disagree on\n\
        and nothing settles is not learnt from. Imported, --attempts become pairs and groups of the\n\
        next `dataset build`, and no lessons.\n\n\
        Exit codes: 0 done, also when there was nothing to learn; 2 bad input")]
    Learn(LearnArgs),
    /// Propose a lesson in your own words, for everybody
    #[command(
        after_help = "Example:\n  understudy memory propose --agent desk --intent refund-order \\\n      \
        --tools refunds.quote,refunds.create --prefer refunds.quote \\\n      \
        --situation 'When a task needs `refunds.create`' \\\n      \
        --text 'prefer calling `refunds.quote` first.' --reason 'the handbook says so'\n  \
        understudy memory propose --agent browser --target https://shop.example.org \\\n      \
        --error 'element \"#buy\" is not visible' --tactic fallback_path --prefer page.scroll \\\n      \
        --situation 'When `page.click` fails' --text 'prefer calling `page.scroll` first.' \\\n      \
        --reason 'seen it'\n  \
        understudy memory propose --supersedes 9ab3c2,51d0e7 --prefer refunds.quote \\\n      \
        --situation 'When money goes back' --text 'prefer calling `refunds.quote` first.' \\\n      \
        --reason 'two lessons said this in part'\n\n\
        One that is much like a known lesson counts as that one, unless --apart-from says it is not.\n\n\
        Exit codes: 0 proposed; 2 bad input, such as a word that nobody has approved"
    )]
    Propose(ProposeArgs),
    /// Attempt requests with a lesson and without, before it is released; nothing is written
    #[command(after_help = "Examples:\n  understudy memory replay mem_0192… --student desk@3\n  \
        understudy memory replay mem_0192… --suite desk-dev --student desk@3\n  \
        understudy memory replay mem_0192… --environment desk --mock-engine --requests 80\n\n\
        Requests that taught the lesson are left out, and so are those that it is not about. What is\n\
        right says a recorded run with a good outcome, the suite, or the environment.\n\n\
        Exit codes: 0 not worse, or nobody can tell; 1 worse; 2 bad input")]
    Replay(MemoryReplayArgs),
    /// Read what is proposed; approve or reject a lesson, or approve a word
    #[command(after_help = "Examples:\n  understudy memory review\n  \
        understudy memory review mem_0192… --approve --reason 'read it'\n  \
        understudy memory review --word dunning --reason 'our jargon'")]
    Review(ReviewArgs),
    /// Serve what is active and what was approved since, as one immutable release
    #[command(after_help = "Examples:\n  understudy memory release --dry-run --reason check\n  \
        understudy memory release --canary --report report.json --reason 'quotes first'\n  \
        understudy memory release --only mem_0192… --owner ada --reason 'quotes first'\n\n\
        A canary is watched, paused, promoted and ended like an adapter's: `understudy release\n\
        status memory-TENANT`.\n\n\
        Exit codes: 0 released; 1 nothing changed, or the rules say no; 2 bad input")]
    Release(MemoryReleaseArgs),
    /// Serve what was served before, another release, or nothing
    #[command(
        after_help = "Examples:\n  understudy memory rollback --reason 'answers got worse'\n  \
        understudy memory rollback --to 9f2c1a --reason 'the last good one'\n  \
        understudy memory rollback --to none --reason 'incident 4711'"
    )]
    Rollback(MemoryRollbackArgs),
    /// Lessons with their counters, or releases
    #[command(after_help = "Examples:\n  understudy memory list --status active\n  \
        understudy memory list --releases --json")]
    List(MemoryListArgs),
    /// Why lessons are shown to a request or not; or everything about one lesson
    #[command(after_help = "Examples:\n  understudy memory explain mem_0192…\n  \
        understudy memory explain chatcmpl-0192…\n  \
        understudy memory explain --goal 'I want my money back' --agent desk --tools orders.find,refunds.quote\n\n\
        Of a reply: what it was shown then, and how its lessons would be judged for it today.\n\n\
        Exit codes: 0 told; 1 the reply met no memory; 2 bad input, such as an id of nothing")]
    Explain(MemoryExplainArgs),
    /// What got others past a failure; or say whether it worked
    #[command(after_help = "Examples:\n  understudy memory heal failure.json\n  \
        understudy memory heal --lesson mem_0192… --worked yes\n\nA failure:\n  \
        {\"target\": {\"kind\": \"site\", \"key\": \"https://shop.example.org\"},\n   \
        \"action\": {\"tool\": \"page.click\"}, \"error\": {\"message\": \"#buy is not visible\"}}\n\n\
        Exit codes: 0 a way is known; 1 a person should look; 2 bad input")]
    Heal(HealArgs),
    /// Serve the memory as tools of an agent, over the Model Context Protocol on stdin and stdout
    #[command(after_help = "Example, in an agent's configuration:\n  \
        {\"mcpServers\": {\"memory\": {\"command\": \"understudy\",\n    \
        \"args\": [\"memory\", \"mcp\", \"--file\", \"/srv/desk/memory.toml\"]}}}\n\n\
        Tools: heal, heal_outcome, plan. Standard output is the protocol's, in JSON with or without --json.")]
    Mcp(MemoryMcpArgs),
    /// What one release has that another lacks
    #[command(after_help = "Examples:\n  understudy memory diff 9f2c1a\n  \
        understudy memory diff 9f2c1a 51d0e7 --json\n\n\
        Exit codes: 0 they differ; 1 they do not; 2 bad input")]
    Diff(MemoryDiffArgs),
    /// Write the lessons for everybody as lines of JSON; a user's own are never among them
    #[command(after_help = "Examples:\n  understudy memory export --out lessons.jsonl\n  \
        understudy memory export --status active | wc -l\n\n\
        A user's own lessons: GET /v1/memory/mine with that user's key.\n\n\
        Exit codes: 0 written; 1 there is nothing; 2 bad input")]
    Export(MemoryExportArgs),
    /// Propose the lessons of an export; each passes what a learnt one passes, or none is taken
    #[command(
        after_help = "Examples:\n  understudy memory import lessons.jsonl --dry-run --reason check\n  \
        understudy memory import lessons.jsonl --owner ada --reason 'from staging'\n\n\
        Exit codes: 0 proposed, or known already; 1 there is nothing in the file; 2 a line was\n\
        refused, and nothing was taken"
    )]
    Import(MemoryImportArgs),
    /// Take a lesson out at once, until `memory review --restore`
    #[command(
        after_help = "Example:\n  understudy memory suspend mem_0192… --reason 'incident 4711'\n\n\
        A running server shows it to nobody within a second, whatever release serves."
    )]
    Suspend(SuspendArgs),
    /// Forget a lesson, or everything of a user: the bytes, not only the rows
    #[command(
        after_help = "Examples:\n  understudy memory forget mem_0192… --reason 'asked to'\n  \
        understudy memory forget --user ada@example.org --reason 'left'\n\n\
        Exit codes: 0 forgotten; 1 there was nothing; 2 bad input"
    )]
    Forget(ForgetArgs),
}

/// Whose memory, and who acts.
#[derive(Debug, Args)]
pub(crate) struct MemoryScope {
    /// The deployment's file [default: memory.toml, here or in a folder above]
    #[arg(long, env = "UNDERSTUDY_MEMORY_FILE", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Who answers for it
    #[arg(long, env = "USER", default_value = "operator")]
    pub(crate) owner: String,
}

#[derive(Debug, Args)]
pub(crate) struct LearnArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// Only trajectories of this task, and whose requests a suite's cases are [default: all tasks that
    /// are agents of the catalogue]
    #[arg(long)]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) practice: PracticeArgs,
    /// Write the attempts as well, scored, as `understudy import` reads them: of requests of which
    /// some runs won and others lost, to train on; the file must not exist
    #[arg(long, value_name = "FILE", requires = "runs", conflicts_with = "suite")]
    pub(crate) attempts: Option<PathBuf>,
    /// Let the configured teacher word the lessons; it sees no word of any user
    #[arg(long)]
    pub(crate) teacher: bool,
    /// Say what would be proposed, and propose nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long, default_value = "learnt by hand")]
    pub(crate) reason: String,
}

/// Who attempts which requests again.
#[derive(Debug, Args)]
pub(crate) struct PracticeArgs {
    /// How often the student attempts each request
    #[arg(long, value_name = "K")]
    pub(crate) runs: Option<u32>,
    /// How many requests, at most [default: 40]
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u32>,
    /// Requests of a simulated world instead of recorded ones; there is `desk`
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// The cases of a dev or gate suite instead of recorded requests, judged by its first scorer; what
    /// is learnt from a gate suite is not judged by it any more
    #[arg(long, value_name = "SUITE", conflicts_with = "environment")]
    pub(crate) suite: Option<String>,
    /// Who attempts them: `base`, a version such as desk@3, or an adapter directory [default: base]
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) student: Option<String>,
    /// Attempt them without a model, for trying out commands; in an environment, scripts do
    #[arg(long)]
    pub(crate) mock_engine: bool,
    /// Of the attempts, and of an environment's requests [default: 17]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryReplayArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    #[command(flatten)]
    pub(crate) practice: PracticeArgs,
    pub(crate) lesson: String,
}

#[derive(Debug, Args)]
pub(crate) struct ProposeArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// When it applies: `When …`
    #[arg(long, value_name = "TEXT")]
    pub(crate) situation: String,
    /// What to do then: `prefer …` or `avoid …`
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: String,
    /// Only for this agent of the catalogue [default: all]
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// For this kind of task of the catalogue
    #[arg(long)]
    pub(crate) intent: Option<String>,
    /// Shown only where all of these can be called
    #[arg(long, value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// Tools that it prefers
    #[arg(long, value_delimiter = ',')]
    pub(crate) prefer: Vec<String>,
    /// Tools that it avoids
    #[arg(long, value_delimiter = ',')]
    pub(crate) avoid: Vec<String>,
    /// strategy, avoid or recovery [default: recovery with --tactic, avoid with nothing to prefer]
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// The failure it gets past, as the tool words it; values in it do not matter
    #[arg(long, value_name = "MESSAGE")]
    pub(crate) error: Option<String>,
    /// The site, server or application it is about [default: any]
    #[arg(long, value_name = "URL|NAME")]
    pub(crate) target: Option<String>,
    /// The way out of the failure: fallback_path, retry_variation, alternative_tool or escalate
    #[arg(long)]
    pub(crate) tactic: Option<String>,
    /// Takes the place of these once it is released: one said better, several joined or, when
    /// proposed in parts, one that was split
    #[arg(long, value_name = "LESSON", value_delimiter = ',')]
    pub(crate) supersedes: Vec<String>,
    /// Is none of these, however alike the words are
    #[arg(long, value_name = "LESSON", value_delimiter = ',')]
    pub(crate) apart_from: Vec<String>,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReviewArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// The lesson to decide on [default: list what waits]
    #[arg(conflicts_with = "word")]
    pub(crate) lesson: Option<String>,
    #[arg(long, requires = "lesson")]
    pub(crate) approve: bool,
    #[arg(long, requires = "lesson", conflicts_with = "approve")]
    pub(crate) reject: bool,
    /// Have a suspended lesson reviewed again
    #[arg(long, requires = "lesson", conflicts_with_all = ["approve", "reject"])]
    pub(crate) restore: bool,
    /// Allow a word in lessons for every user
    #[arg(long)]
    pub(crate) word: Option<String>,
    /// Why; needed for any decision
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryReleaseArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// Of what was approved, only these; repeatable
    #[arg(long, value_name = "LESSON")]
    pub(crate) only: Vec<String>,
    /// Always shown, in this order; repeatable, at most five
    #[arg(long, value_name = "LESSON")]
    pub(crate) core: Vec<String>,
    /// To a growing share of sessions, compared with the others; memory.toml's [release] says how
    #[arg(long)]
    pub(crate) canary: bool,
    /// An evaluation of these lessons, as `understudy eval --memory` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Start the canary although no report passes; kept for ever, with the owner and the reason
    #[arg(long, requires = "canary")]
    pub(crate) force: bool,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryRollbackArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// A release, by the beginning of its name, or `none` [default: what served before]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) to: Option<String>,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryListArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// proposed, validated, active, suspended or retired
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Releases, newest first, instead of lessons
    #[arg(long, conflicts_with = "status")]
    pub(crate) releases: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryExplainArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// A lesson: its evidence and its history; or a reply's id: what that request met
    #[arg(required_unless_present = "goal", conflicts_with = "goal", value_name = "LESSON|REPLY")]
    pub(crate) lesson: Option<String>,
    /// A request's words: every lesson with the reason it would be shown or not
    #[arg(long)]
    pub(crate) goal: Option<String>,
    #[arg(long, requires = "goal")]
    pub(crate) agent: Option<String>,
    /// The tools of the request [default: all of the catalogue]
    #[arg(long, requires = "goal", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    #[arg(long, requires = "goal", default_value = "explain")]
    pub(crate) session: String,
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// The failure, as JSON; `-` reads standard input
    #[arg(required_unless_present = "lesson", conflicts_with = "lesson")]
    pub(crate) failure: Option<PathBuf>,
    /// The lesson that was followed
    #[arg(long, requires = "worked")]
    pub(crate) lesson: Option<String>,
    /// yes or no
    #[arg(long, requires = "lesson", value_parser = ["yes", "no"])]
    pub(crate) worked: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryMcpArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryDiffArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// The earlier release, by the beginning of its name
    pub(crate) before: String,
    /// The later one [default: what serves]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryExportArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// proposed, validated, active, suspended or retired [default: all but retired]
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Where to; the file must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryImportArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    /// What `memory export` wrote; `-` reads standard input
    #[arg(value_name = "LESSONS")]
    pub(crate) lessons: PathBuf,
    /// Say what would be proposed, and propose nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    pub(crate) lesson: String,
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    pub(crate) scope: MemoryScope,
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    pub(crate) lesson: Option<String>,
    /// Everything that was kept for this user
    #[arg(long)]
    pub(crate) user: Option<String>,
    #[arg(long)]
    pub(crate) reason: String,
}
