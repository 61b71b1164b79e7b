//! What each route asks of who uses it: the one table. A route that is not in it is for `admin`
//! alone, and a test finds it.

use axum::http::Method;
use understudy_access::Scope;

/// What a route asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it says nothing about anybody.
    Nothing,
    /// The token that came with a reply, which the handler checks.
    Token,
    /// A key, whatever it is for.
    AnyKey,
    /// A key with this scope, whose holder sees what is their tenant's.
    Scope(Scope),
    /// A key with this scope that is no tenant's, because the answer is about all of them.
    Whole(Scope),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// The longest body that is kept. Telemetry has limits of its own, before and after unpacking.
    pub(crate) body_bytes: usize,
}

const CHAT: usize = 4 << 20;
const CONTROL: usize = 64 << 10;
const NO_BODY: usize = 4 << 10;
const ARRIVALS: usize = 64 << 20;

const fn row(method: &'static str, path: &'static str, needs: Needs, body_bytes: usize) -> Row {
    Row { method, path, needs, body_bytes }
}

const INFER: Needs = Needs::Scope(Scope::Infer);
const FEEDBACK: Needs = Needs::Scope(Scope::Feedback);
const TELEMETRY: Needs = Needs::Scope(Scope::Telemetry);
const READ: Needs = Needs::Scope(Scope::Read);
/// Of the key's tenant, and with a user's key of that user.
const WORDS: Needs = Needs::Scope(Scope::TrajectoryRead);
const ADAPTERS: Needs = Needs::Scope(Scope::AdapterWrite);
const LOOK: Needs = Needs::Whole(Scope::Read);
/// What the registry then lets the key's owner do is its own question.
const RELEASE: Needs = Needs::Whole(Scope::Release);

pub(crate) const TABLE: &[Row] = &[
    row("GET", "/health", Needs::Nothing, NO_BODY),
    row("GET", "/ready", Needs::Nothing, NO_BODY),
    row("GET", "/v1/health", Needs::Nothing, NO_BODY),
    row("GET", "/ping", Needs::Nothing, NO_BODY),
    row("POST", "/ping", Needs::Nothing, NO_BODY),
    row("GET", "/version", Needs::Nothing, NO_BODY),
    row("POST", "/v1/chat/completions", INFER, CHAT),
    row("POST", "/v1/completions", INFER, CHAT),
    row("POST", "/inference/v1/generate", INFER, CHAT),
    row("POST", "/tokenize", INFER, CHAT),
    row("POST", "/detokenize", INFER, CHAT),
    row("GET", "/v1/models", INFER, NO_BODY),
    row("GET", "/v1/models/{*id}", INFER, NO_BODY),
    row("POST", "/v1/feedback", FEEDBACK, CHAT),
    row("GET", "/v1/feedback", FEEDBACK, NO_BODY),
    row("DELETE", "/v1/feedback/{id}", FEEDBACK, NO_BODY),
    row("POST", "/v1/outcomes", FEEDBACK, CHAT),
    row("GET", "/v1/pending", FEEDBACK, NO_BODY),
    row("POST", "/v1/feedback/signed", Needs::Token, CONTROL),
    row("OPTIONS", "/v1/feedback/signed", Needs::Token, NO_BODY),
    row("POST", "/v1/traces", TELEMETRY, CHAT),
    row("POST", "/v1/logs", TELEMETRY, CHAT),
    row("POST", "/api/public/otel/v1/traces", TELEMETRY, CHAT),
    row("GET", "/info", TELEMETRY, NO_BODY),
    row("POST", "/runs/multipart", TELEMETRY, CHAT),
    row("POST", "/runs/batch", TELEMETRY, CHAT),
    row("POST", "/feedback", TELEMETRY, CHAT),
    row("POST", "/api/public/scores", TELEMETRY, CHAT),
    row("POST", "/v1/traces/ingest", TELEMETRY, CHAT),
    row("POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", TELEMETRY, CHAT),
    row("POST", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", TELEMETRY, CHAT),
    // Lessons are those of whoever runs the server, and no tenant's.
    row("POST", "/v1/memory/heal", Needs::Whole(Scope::Infer), CONTROL),
    row("POST", "/v1/memory/heal/{id}/outcome", Needs::Whole(Scope::Infer), CONTROL),
    row("POST", "/v1/memory/plan", Needs::Whole(Scope::Infer), CONTROL),
    row("GET", "/v1/memory/status", Needs::Whole(Scope::Read), NO_BODY),
    // Of one user's own, by that user's key; the handler refuses a key that is no user's.
    row("GET", "/v1/memory/mine", INFER, NO_BODY),
    row("POST", "/v1/memory/mine", INFER, CONTROL),
    row("DELETE", "/v1/memory/mine", INFER, NO_BODY),
    row("PUT", "/v1/memory/mine/{id}", INFER, CONTROL),
    row("DELETE", "/v1/memory/mine/{id}", INFER, NO_BODY),
    row("POST", "/v1/load_lora_adapter", ADAPTERS, CONTROL),
    row("POST", "/v1/unload_lora_adapter", ADAPTERS, CONTROL),
    row("POST", "/v1/rollback_lora_adapter", ADAPTERS, CONTROL),
    row("GET", "/v1/lora_adapters", READ, NO_BODY),
    row("GET", "/weight_info", READ, NO_BODY),
    row("GET", "/api/v1/tasks", READ, NO_BODY),
    row("GET", "/api/v1/trajectories", WORDS, NO_BODY),
    row("GET", "/api/v1/trajectories/{id}", WORDS, NO_BODY),
    row("POST", "/pause", Needs::Whole(Scope::AdapterWrite), CONTROL),
    row("POST", "/resume", Needs::Whole(Scope::AdapterWrite), CONTROL),
    row("GET", "/is_paused", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/load", Needs::Whole(Scope::Metrics), NO_BODY),
    row("GET", "/metrics", Needs::Whole(Scope::Metrics), NO_BODY),
    row("GET", "/api/v1/journal", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/api/v1/audit", Needs::Whole(Scope::AuditRead), NO_BODY),
    row("GET", "/api/v1/live", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/api/v1/loop", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/api/v1/loop/{task}", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/api/v1/releases", LOOK, NO_BODY),
    row("POST", "/api/v1/releases", RELEASE, CONTROL),
    row("GET", "/api/v1/releases/{id}", LOOK, NO_BODY),
    row("GET", "/api/v1/releases/{id}/evidence", LOOK, NO_BODY),
    row("POST", "/api/v1/releases/{id}/promote", RELEASE, CONTROL),
    row("POST", "/api/v1/releases/{id}/resume", RELEASE, CONTROL),
    row("POST", "/api/v1/releases/{id}/pause", RELEASE, CONTROL),
    row("POST", "/api/v1/releases/{id}/rollback", RELEASE, CONTROL),
    row("POST", "/api/v1/releases/{id}/abort", RELEASE, CONTROL),
    row("GET", "/api/v1/channels/{task}", LOOK, NO_BODY),
    row("GET", "/api/v1/channels/{task}/history", LOOK, NO_BODY),
    row("POST", "/api/v1/channels/{task}/undo", RELEASE, CONTROL),
    // Whoever follows this server holds its adapters, and brings the journals of its replicas.
    row("GET", "/api/v1/watch", Needs::Whole(Scope::Admin), NO_BODY),
    row("GET", "/api/v1/watch/nodes", Needs::Whole(Scope::Read), NO_BODY),
    row("GET", "/api/v1/watch/adapters/{version}/{file}", Needs::Whole(Scope::Admin), NO_BODY),
    row("POST", "/api/v1/watch/arrivals", Needs::Whole(Scope::Admin), ARRIVALS),
];

/// A path that nothing answers, or a method that a path does not take: not for strangers to probe.
static NOTHING_THERE: Row = row("", "", Needs::AnyKey, CHAT);
static UNLISTED: Row = row("", "", Needs::Whole(Scope::Admin), CHAT);

pub(crate) fn row_of(method: &Method, path: Option<&str>) -> &'static Row {
    let Some(path) = path else { return &NOTHING_THERE };
    // axum answers HEAD with what it has for GET.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut of_path = TABLE.iter().filter(|row| row.path == path).peekable();
    if of_path.peek().is_none() {
        return &UNLISTED;
    }
    of_path.find(|row| row.method == method).unwrap_or(&NOTHING_THERE)
}
