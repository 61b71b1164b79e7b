//! Scores of live traffic, as they are shown.

use serde_json::json;
use understudy_live::{Report, Row};

use super::start;

fn row(arm: &'static str, scored: u64, mean: f64) -> Row {
    Row {
        task: "triage".to_owned(),
        arm,
        adapter: (arm == "canary").then(|| "triage@2".to_owned()),
        scorer: "json_valid".to_owned(),
        scored,
        unscored: 1,
        mean,
        low: mean / 2.0,
        high: 1.0,
    }
}

#[test]
fn live_scores_are_shown_by_arm_over_http_and_as_metrics() {
    let server = start();
    let missing = server.get("/api/v1/live");
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("[live]"), "{}", missing.text);
    assert!(!server.get("/metrics").text.contains("understudy_live"));

    let rows = vec![row("canary", 8, 0.75), row("stable", 0, 0.0)];
    server.gateway.live().post(Report {
        share: 0.5,
        scorers: vec!["json_valid".to_owned()],
        seen: 30,
        scored: 16,
        failed: 0,
        left_out: 0,
        rows,
    });
    let shown = server.get("/api/v1/live").json();
    assert_eq!((&shown["share"], &shown["rows"][0]["mean"]), (&json!(0.5), &json!(0.75)));
    let page = server.get("/metrics").text;
    let labels = r#"task="triage",arm="canary",adapter="triage@2",scorer="json_valid""#;
    for line in [
        "# TYPE understudy_live_score gauge".to_owned(),
        format!("understudy_live_score{{{labels}}} 0.75"),
        format!("understudy_live_score_low{{{labels}}} 0.375"),
        format!("understudy_live_scored_total{{{labels}}} 8"),
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
    }
    let stable = |name: &str| page.lines().any(|l| l.starts_with(name) && l.contains("stable"));
    assert!(!stable("understudy_live_score{"), "a mean of nothing is no 0");
    assert!(stable("understudy_live_scored_total{"));
}
