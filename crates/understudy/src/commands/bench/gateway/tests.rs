use std::time::Duration;

use super::{
    client::{Job, Seen, drive},
    model::Model,
};

fn job(model: &Model, rate: Option<f64>, stream: bool) -> Job {
    Job {
        address: model.address.clone(),
        connections: 2,
        seconds: Duration::from_millis(300),
        rate,
        body: format!("{{\"stream\":{stream}}}"),
    }
}

#[test]
fn clients_and_model_understand_each_other() {
    let model = Model::start(false).unwrap();
    for stream in [false, true] {
        let most = drive(&job(&model, None, stream)).unwrap();
        assert!(most.ms.len() > 20 && most.failed == 0, "{} and {}", most.ms.len(), most.failed);
        let steady = drive(&job(&model, Some(100.0), stream)).unwrap();
        assert_eq!((steady.ms.len(), steady.failed), (30, 0), "as many as are due");
    }
}

#[test]
fn quantiles_are_values_that_were_seen() {
    let seen = Seen { ms: vec![1.0, 2.0, 3.0, 4.0], ..Seen::default() };
    assert_eq!([0.0, 0.5, 0.51, 1.0].map(|q| seen.quantile_ms(q)), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(Seen::default().quantile_ms(0.5), 0.0);
}
