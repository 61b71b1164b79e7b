//! Prometheus' text format, version 0.0.4.

use std::{collections::BTreeMap, fmt::Write as _};

use understudy_inference::{AdapterInfo, Gauge, InLine, Loads, STEP_ROWS, Stats};
use understudy_live::{Report, Row};

use super::{
    Seen,
    arms::{Arm, Arms, Labels},
    histogram::Histogram,
};

/// What the student says of itself.
pub(super) struct Held<'a> {
    pub(super) base: &'a str,
    pub(super) stats: Stats,
    pub(super) paused: bool,
    pub(super) adapters: Vec<AdapterInfo>,
    pub(super) in_line: Option<Vec<InLine>>,
    pub(super) loads: Loads,
}

/// Everything, in one page.
pub(super) fn write(seen: &Seen, held: &Held<'_>) -> String {
    let common = format!("model_name=\"{}\",engine=\"0\"", escape(held.base));
    let mut page = Page { text: String::new(), common };
    let stats = &held.stats;
    gauges(&mut page, stats, held.paused);
    counters(&mut page, seen, stats);
    for (name, histogram) in [
        ("time_to_first_token_seconds", &seen.first_token),
        ("inter_token_latency_seconds", &seen.between_tokens),
        ("request_time_per_output_token_seconds", &seen.per_token),
        ("e2e_request_latency_seconds", &seen.whole),
        ("request_queue_time_seconds", &seen.queued),
        ("request_inference_time_seconds", &seen.inference),
        ("request_prefill_time_seconds", &seen.prefill),
        ("request_decode_time_seconds", &seen.decode),
        ("request_prompt_tokens", &seen.prompt_tokens),
        ("request_generation_tokens", &seen.completion_tokens),
        ("request_max_num_generation_tokens", &seen.longest),
        ("request_params_max_tokens", &seen.max_tokens),
        ("request_params_n", &seen.choices),
    ] {
        let name = format!("vllm:{name}");
        page.kind(&name, "histogram");
        page.histogram(&name, "", histogram);
    }
    iterations(&mut page, stats);
    residency(&mut page, held);
    loads(&mut page, &held.loads);
    ours(&mut page, seen, stats, &held.adapters);
    page.text
}

impl Labels {
    fn pairs(&self) -> Vec<(&str, &str)> {
        let Self { task, release, arm, adapter } = self;
        vec![("task", task), ("release", release), ("arm", arm), ("adapter", adapter)]
    }
}

struct Page {
    text: String,
    /// Labels every sample has.
    common: String,
}

impl Page {
    fn kind(&mut self, name: &str, kind: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "{name}{{{}", self.common);
        for (label, value) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escape(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, value: impl std::fmt::Display) {
        self.kind(name, kind);
        self.sample(name, &[], value);
    }

    /// `labels` is empty or begins with a comma.
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let common = &self.common;
        for (bound, count) in histogram.cumulative() {
            // Python's client, and so vLLM, writes 1.0 where `Display` would say 1.
            let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
            let _ = writeln!(self.text, "{name}_bucket{{{common}{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.text, "{name}_sum{{{common}{labels}}} {}", histogram.sum());
        let _ = writeln!(self.text, "{name}_count{{{common}{labels}}} {}", histogram.count());
    }
}

fn gauges(page: &mut Page, stats: &Stats, paused: bool) {
    page.one("vllm:num_requests_running", "gauge", stats.running);
    page.one("vllm:num_requests_waiting", "gauge", stats.waiting);
    page.kind("vllm:num_requests_waiting_by_reason", "gauge");
    let (capacity, deferred) = if paused { (0, stats.waiting) } else { (stats.waiting, 0) };
    for (reason, count) in [("capacity", capacity), ("deferred", deferred)] {
        page.sample("vllm:num_requests_waiting_by_reason", &[("reason", reason)], count);
    }
    let usage = stats.kv_tokens as f64 / stats.kv_capacity.max(1) as f64;
    page.one("vllm:kv_cache_usage_perc", "gauge", usage);
    page.kind("vllm:cache_config_info", "gauge");
    let capacity = stats.kv_capacity.to_string();
    let mut labels = vec![("kv_cache_tokens", capacity.as_str())];
    // What schedulers in front of several servers read.
    let (size, number) =
        (stats.kv_block.to_string(), (stats.kv_capacity / stats.kv_block.max(1)).to_string());
    if stats.kv_block > 0 {
        labels.extend([("block_size", size.as_str()), ("num_gpu_blocks", number.as_str())]);
    }
    page.sample("vllm:cache_config_info", &labels, 1);
    page.kind("vllm:engine_sleep_state", "gauge");
    let state = if paused { "paused" } else { "awake" };
    page.sample("vllm:engine_sleep_state", &[("sleep_state", state)], 1);
}

fn counters(page: &mut Page, seen: &Seen, stats: &Stats) {
    page.one("vllm:prompt_tokens_total", "counter", stats.prompt_tokens);
    page.one("vllm:generation_tokens_total", "counter", stats.completion_tokens);
    page.one("vllm:prompt_tokens_cached_total", "counter", seen.cached_tokens);
    page.one("vllm:num_preemptions_total", "counter", stats.evicted);
    page.one("vllm:prefix_cache_queries_total", "counter", stats.prompt_tokens);
    page.one("vllm:prefix_cache_hits_total", "counter", stats.reused_tokens);
    page.kind("vllm:request_success_total", "counter");
    for (reason, count) in &seen.ended {
        page.sample("vllm:request_success_total", &[("finished_reason", reason)], count);
    }
    page.kind("vllm:admission_rejections_total", "counter");
    for (reason, count) in [
        ("max_num_queued_reqs", stats.rejected_requests),
        ("max_num_queued_tokens", stats.rejected_tokens),
    ] {
        page.sample("vllm:admission_rejections_total", &[("reason", reason)], count);
    }
}

/// Rows of every step, which the engine counts itself.
fn iterations(page: &mut Page, stats: &Stats) {
    let name = "vllm:iteration_tokens_total";
    page.kind(name, "histogram");
    let bounds = STEP_ROWS.iter().map(|bound| format!("{bound}.0")).chain(["+Inf".to_owned()]);
    let mut so_far = 0;
    for (bound, count) in bounds.zip(stats.steps_by_rows) {
        so_far += count;
        page.sample(&format!("{name}_bucket"), &[("le", &bound)], so_far);
    }
    page.sample(&format!("{name}_sum"), &[], stats.rows);
    page.sample(&format!("{name}_count"), &[], so_far);
}

fn residency(page: &mut Page, held: &Held<'_>) {
    let Held { stats, adapters, .. } = held;
    lines(page, held);
    page.kind("vllm:lora_adapter_loaded", "gauge");
    for adapter in adapters {
        let pinned = adapter.pinned.to_string();
        let labels = [("adapter_name", &*adapter.alias), ("level", "cpu"), ("pinned", &*pinned)];
        page.sample("vllm:lora_adapter_loaded", &labels, u8::from(adapter.resident));
    }
    page.one("vllm:num_cpu_loaded_lora_adapters", "gauge", stats.resident_adapters);
    page.one("vllm:num_gpu_loaded_lora_adapters", "gauge", 0);
}

type Requests = fn(&InLine) -> usize;

/// Who waits for which adapter. Where nobody counts, those that are held by a request are running.
fn lines(page: &mut Page, held: &Held<'_>) {
    let by_lease = || {
        let line = |adapter: &AdapterInfo| InLine {
            alias: adapter.alias.clone(),
            waiting: 0,
            running: adapter.leases,
        };
        held.adapters.iter().map(line).collect()
    };
    let lines: Vec<InLine> = held.in_line.clone().unwrap_or_else(by_lease);
    let names = |of: Requests| {
        let some = lines.iter().filter(|line| of(line) > 0);
        some.map(|line| line.alias.as_str()).collect::<Vec<_>>().join(",")
    };
    let (waiting, running) = (names(|line| line.waiting), names(|line| line.running));
    let most = match held.stats.adapters_capacity {
        0 => String::new(),
        most => most.to_string(),
    };
    let labels = [
        ("max_lora", most.as_str()),
        ("waiting_lora_adapters", &waiting),
        ("running_lora_adapters", &running),
    ];
    page.kind("vllm:lora_requests_info", "gauge");
    page.sample("vllm:lora_requests_info", &labels, 1);
    let of = |alias: &str| lines.iter().find(|line| line.alias == alias);
    let counts: [(&str, Requests); 2] = [
        ("understudy:adapter_requests_waiting", |line| line.waiting),
        ("understudy:adapter_requests_running", |line| line.running),
    ];
    for (name, count) in counts {
        page.kind(name, "gauge");
        for AdapterInfo { alias, .. } in &held.adapters {
            page.sample(name, &[("adapter", alias)], of(alias).map_or(0, count));
        }
    }
}

/// Loads and rollbacks, whoever asked for them.
fn loads(page: &mut Page, loads: &Loads) {
    page.kind("understudy:adapter_swap_total", "counter");
    for (result, count) in [
        ("added", loads.added),
        ("replaced", loads.replaced),
        ("refused", loads.refused),
        ("rolled_back", loads.rolled_back),
    ] {
        page.sample("understudy:adapter_swap_total", &[("result", result)], count);
    }
    page.kind("understudy:adapter_load_seconds", "histogram");
    for (phase, spread) in
        [("read", &loads.read), ("verify", &loads.verify), ("publish", &loads.publish)]
    {
        let labels = format!(",phase=\"{phase}\"");
        page.histogram("understudy:adapter_load_seconds", &labels, &Histogram::of_loads(spread));
    }
}

fn ours(page: &mut Page, seen: &Seen, stats: &Stats, adapters: &[AdapterInfo]) {
    // Generations that no alias means any more among them, as long as they are in memory.
    page.one("understudy:adapter_resident_bytes", "gauge", stats.resident_bytes);
    page.one("understudy:adapter_hits_total", "counter", stats.adapter_hits);
    page.one("understudy:adapter_misses_total", "counter", stats.adapter_misses);
    page.kind("understudy:adapter_generation_info", "gauge");
    for adapter in adapters {
        let labels = [("alias", &*adapter.alias), ("generation", &*adapter.generation)];
        page.sample("understudy:adapter_generation_info", &labels, 1);
    }
    page.kind("understudy:adapter_active_leases", "gauge");
    for adapter in adapters {
        let labels = [("adapter", adapter.alias.as_str())];
        page.sample("understudy:adapter_active_leases", &labels, adapter.leases);
    }
    page.kind("understudy:route_requests_total", "counter");
    for ((route, arm), count) in &seen.routed {
        page.sample("understudy:route_requests_total", &[("route", route), ("arm", arm)], count);
    }
    page.kind("understudy:refused_requests_total", "counter");
    for (reason, count) in &seen.refused {
        page.sample("understudy:refused_requests_total", &[("reason", reason)], count);
    }
    per_adapter(page, seen);
    page.kind("understudy:gateway_overhead_seconds", "histogram");
    page.histogram("understudy:gateway_overhead_seconds", "", &seen.overhead);
    per_arm(page, &seen.arms);
    turns(page, &seen.arms);
}

type Counted = fn(&Arm) -> &BTreeMap<&'static str, u64>;
type Measured = fn(&Arm) -> &Histogram;

/// `OpenTelemetry`'s names for what a generation took, beside our own for what it did.
fn per_arm(page: &mut Page, arms: &Arms) {
    page.kind("understudy:arm_requests_total", "counter");
    for (labels, arm) in &arms.by_labels {
        page.sample("understudy:arm_requests_total", &labels.pairs(), arm.requests);
    }
    let counters: [(&str, &str, Counted); 3] = [
        ("understudy:arm_errors_total", "class", |arm| &arm.errors),
        ("understudy:arm_marks_total", "mark", |arm| &arm.marks),
        ("gen_ai_client_token_usage_total", "gen_ai_token_type", |arm| &arm.tokens),
    ];
    for (name, label, of) in counters {
        page.kind(name, "counter");
        for (labels, arm) in &arms.by_labels {
            for (what, count) in of(arm) {
                let mut labels = labels.pairs();
                labels.push((label, what));
                page.sample(name, &labels, count);
            }
        }
    }
    let histograms: [(&str, Measured); 3] = [
        ("gen_ai_server_time_to_first_token_seconds", |arm| &arm.first_token),
        ("gen_ai_server_time_per_output_token_seconds", |arm| &arm.between_tokens),
        ("gen_ai_server_request_duration_seconds", |arm| &arm.whole),
    ];
    for (name, of) in histograms {
        page.kind(name, "histogram");
        for (labels, arm) in &arms.by_labels {
            let text = |(name, value): (&str, &str)| format!(",{name}=\"{}\"", escape(value));
            let labels: String = labels.pairs().into_iter().map(text).collect();
            page.histogram(name, &labels, of(arm));
        }
    }
}

/// Where a reply was not simply that of its arm, and what was not kept.
fn turns(page: &mut Page, arms: &Arms) {
    for (name, counts, labels) in [
        ("understudy:fallbacks_total", &arms.fallbacks, ["task", "arm", "reason"]),
        ("understudy:escalations_total", &arms.escalations, ["task", "arm", "result"]),
        ("understudy:tap_skipped_total", &arms.skipped, ["task", "mode", "reason"]),
        ("understudy:beside_compared_total", &arms.compared, ["task", "kind", "agrees"]),
        ("understudy:beside_dropped_total", &arms.dropped, ["task", "kind", "reason"]),
    ] {
        page.kind(name, "counter");
        for ((task, second, third), count) in counts {
            let values = [task.as_str(), second, third];
            let labels: Vec<_> = labels.into_iter().zip(values).collect();
            page.sample(name, &labels, count);
        }
    }
    page.kind("understudy:beside_total", "counter");
    for ((task, kind), count) in &arms.beside {
        page.sample("understudy:beside_total", &[("task", task), ("kind", kind)], count);
    }
    page.kind("understudy:capture_refused_total", "counter");
    for (arm, count) in &arms.uncaptured {
        page.sample("understudy:capture_refused_total", &[("arm", arm)], count);
    }
}

/// What a backend counts of itself.
pub(super) fn gauges_of(text: &mut String, backend: &str, gauges: &[Gauge]) {
    let mut names: Vec<&str> = gauges.iter().map(|gauge| gauge.name).collect();
    names.dedup();
    for name in names {
        let of_name = || gauges.iter().filter(|gauge| gauge.name == name);
        let kind = if of_name().any(|gauge| gauge.rises) { "counter" } else { "gauge" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE understudy:{name} {kind}");
        for gauge in of_name() {
            let _ = write!(text, "understudy:{name}{{backend=\"{backend}\"");
            for (label, value) in &gauge.labels {
                let _ = write!(text, ",{label}=\"{}\"", escape(value));
            }
            let _ = writeln!(text, "}} {}", gauge.value);
        }
    }
}

/// What the scorers of suites say of live replies: means with intervals that hold at all times, and
/// how many replies they rest on.
pub(super) fn live_scores(text: &mut String, report: &Report) {
    type Figure = fn(&Row) -> f64;
    let figures: [(&str, &str, Figure); 5] = [
        ("understudy_live_score", "gauge", |row| row.mean),
        ("understudy_live_score_low", "gauge", |row| row.low),
        ("understudy_live_score_high", "gauge", |row| row.high),
        ("understudy_live_scored_total", "counter", |row| row.scored as f64),
        ("understudy_live_unscored_total", "counter", |row| row.unscored as f64),
    ];
    for (name, kind, figure) in figures {
        let _ = writeln!(text, "# TYPE {name} {kind}");
        // A mean of nothing is no 0.
        let shown = report.rows.iter().filter(|row| kind == "counter" || row.scored > 0);
        for row in shown {
            let labels = [
                ("task", row.task.as_str()),
                ("arm", row.arm),
                ("adapter", row.adapter.as_deref().unwrap_or_default()),
                ("scorer", row.scorer.as_str()),
            ];
            let pairs = labels.map(|(label, value)| format!("{label}=\"{}\"", escape(value)));
            let _ = writeln!(text, "{name}{{{}}} {}", pairs.join(","), figure(row));
        }
    }
}

/// What a canary comparison needs of each arm.
fn per_adapter(page: &mut Page, seen: &Seen) {
    page.kind("understudy:adapter_requests_total", "counter");
    for (alias, adapter) in &seen.adapters {
        page.sample("understudy:adapter_requests_total", &[("adapter", alias)], adapter.requests);
    }
    for (name, first) in [
        ("understudy:adapter_time_to_first_token_seconds", true),
        ("understudy:adapter_inter_token_latency_seconds", false),
    ] {
        page.kind(name, "histogram");
        for (alias, adapter) in &seen.adapters {
            let labels = format!(",adapter=\"{}\"", escape(alias));
            let histogram = if first { &adapter.first_token } else { &adapter.between_tokens };
            page.histogram(name, &labels, histogram);
        }
    }
}

/// Label values may hold anything but these three.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
