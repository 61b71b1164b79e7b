use std::{env, ops::ControlFlow, path::Path, sync::mpsc, time::Instant};
use understudy_engine::{Config, Engine};
use understudy_inference::*;
use understudy_message::Message;
use understudy_model::*;

fn prompt(n: usize) -> Vec<Message> {
    vec![
        Message::system(
            "You are a careful support agent. Read the customer's message and answer at length, step by step, in plain words.",
        ),
        Message::user(format!(
            "My order number {} from the shop in town {} has not come yet. Please tell me a long story about what may have happened to it.",
            1000 + n * 37,
            n * 13 % 101
        )),
    ]
}

fn round(engine: &Engine, c: usize, max: u32, adapters: &[String]) -> (f64, f64, f64, usize) {
    let (tx, rx) = mpsc::channel();
    let t0 = Instant::now();
    for n in 0..c {
        let tx = tx.clone();
        let mut first = None;
        let mut stamps: Vec<Instant> = vec![];
        engine
            .submit(
                GenerateRequest {
                    prompt: Prompt::Messages(prompt(n)),
                    adapter: adapters.get(n % adapters.len().max(1)).cloned(),
                    sampling: Sampling {
                        temperature: 1.0,
                        seed: Some(n as u64),
                        ..Sampling::greedy(max)
                    },
                },
                Box::new(move |e| {
                    match e {
                        Event::Delta(_) => {
                            first.get_or_insert_with(Instant::now);
                            stamps.push(Instant::now());
                        }
                        Event::Finished(c) => {
                            tx.send((first.unwrap_or_else(Instant::now), Instant::now(), *c)).ok();
                        }
                        Event::Failed(e) => panic!("{e}"),
                        Event::Started(_) => {}
                    }
                    ControlFlow::Continue(())
                }),
            )
            .unwrap();
    }
    drop(tx);
    let all: Vec<_> = rx.iter().collect();
    let last_first = all.iter().map(|a| a.0).max().unwrap();
    let end = all.iter().map(|a| a.1).max().unwrap();
    let tokens: usize = all.iter().map(|a| a.2.usage.completion_tokens as usize).sum();
    let ptokens: usize = all.iter().map(|a| a.2.usage.prompt_tokens as usize).sum();
    let whole = tokens as f64 / (end - t0).as_secs_f64();
    let _ = last_first;
    (whole, ptokens as f64 / (last_first - t0).as_secs_f64(), (end - t0).as_secs_f64(), tokens)
}

fn main() {
    let path = env::var("UNDERSTUDY_TEST_BASE")
        .unwrap_or("/work/notes/base/SmolLM2-135M-Instruct.Q4_1.gguf".into());
    let model = BaseModel::load(Path::new(&path), &Device::Cpu).unwrap();
    let ids =
        model.tokenizer.encode(&model.template.render(&prompt(1), None, true).unwrap()).unwrap();
    println!("prompt {} tokens", ids.len());
    // pieces
    let cfg = model.decoder.config().clone();
    for b in [1usize, 8, 16, 32] {
        let mut caches: Vec<KvCache> =
            (0..b).map(|_| KvCache::with_capacity(&cfg, &Device::Cpu, 160).unwrap()).collect();
        let batch = Batch::of(&vec![ids.clone(); b]);
        let t = Instant::now();
        {
            let mut refs: Vec<&mut KvCache> = caches.iter_mut().collect();
            model.decoder.infer(&batch, &mut refs, &AdapterRun::whole(&batch, None)).unwrap();
        }
        let pre = t.elapsed().as_secs_f64();
        let (mut inf, mut log, mut vec, mut lp, mut dr, mut fork) =
            (f64::MAX, f64::MAX, f64::MAX, f64::MAX, f64::MAX, f64::MAX);
        for i in 0..20 {
            let mut batch = Batch::default();
            for _ in 0..b {
                batch.push(&[100 + i as u32], ids.len() + i);
            }
            let t = Instant::now();
            let h = {
                let mut refs: Vec<&mut KvCache> = caches.iter_mut().collect();
                model.decoder.infer(&batch, &mut refs, &AdapterRun::whole(&batch, None)).unwrap()
            };
            inf = inf.min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            let l = model.decoder.logits(&h).unwrap();
            log = log.min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            let v = l.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            vec = vec.min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            for r in v.chunks(cfg.vocab) {
                std::hint::black_box(token_log_prob(r, 5, 1.0));
            }
            lp = lp.min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            for r in v.chunks(cfg.vocab) {
                let w: Vec<f32> = r.iter().map(|z| (z - 30.0).exp()).collect();
                std::hint::black_box(w);
            }
            dr = dr.min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            std::hint::black_box(caches[0].fork().unwrap());
            fork = fork.min(t.elapsed().as_secs_f64());
        }
        println!(
            "batch {b}: prefill {:.0} tok/s; best ms: infer {:.1} logits {:.1} to_vec {:.2} logprob {:.2} exp {:.2} fork {:.2}",
            (b * ids.len()) as f64 / pre,
            inf * 1e3,
            log * 1e3,
            vec * 1e3,
            lp * 1e3,
            dr * 1e3,
            fork * 1e3
        );
    }

    drop(model);
    let engine = Engine::start(
        BaseModel::load(Path::new(&path), &Device::Cpu).unwrap(),
        "b",
        Config::default(),
    )
    .unwrap();
    for c in [1, 8, 16, 32] {
        let rs: Vec<_> = (0..4).map(|_| round(&engine, c, 96, &[])).collect();
        let best = rs.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!(
            "c={c} (prompts known after the first round): {:.0} completion tok/s, {:.2}s {} tokens",
            best.0, best.2, best.3
        );
    }
    // adapters
    let root = std::env::temp_dir().join(format!("bench-{}", std::process::id()));
    let mut paths = vec![];
    for seed in 0..8u64 {
        let mut l = Lora::init(&cfg, &LoraSpec::standard(), seed).unwrap();
        let f = 1e-3 * (seed as f32 + 1.0);
        for v in l.values_mut() {
            if *v == 0.0 {
                *v = f * 0.1;
            }
        }
        let d = root.join(format!("a{seed}"));
        write_peft(&l, &d, "b", &[]).unwrap();
        paths.push(d);
    }
    let t = Instant::now();
    for (n, d) in paths.iter().enumerate() {
        engine.load_adapter(&format!("a{n}"), d).unwrap();
    }
    println!("load {:.0} ms each, idle", t.elapsed().as_secs_f64() * 1e3 / 8.0);
    let t = Instant::now();
    engine.load_adapter("a0", &paths[1]).unwrap();
    let t1 = t.elapsed();
    let t = Instant::now();
    engine.rollback("a0").unwrap();
    println!(
        "reload {:.1} ms, rollback {:.1} us",
        t1.as_secs_f64() * 1e3,
        t.elapsed().as_secs_f64() * 1e6
    );
    for k in [0usize, 1, 8] {
        let names: Vec<String> = (0..k).map(|n| format!("a{n}")).collect();
        let rs: Vec<_> = (0..4).map(|_| round(&engine, 8, 96, &names)).collect();
        let best = rs.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!("8 requests over {k} adapters: {:.0} completion tok/s", best.0);
    }
    for swap in [false, true] {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            if swap {
                s.spawn(|| {
                    let mut n = 0;
                    let mut worst = 0f64;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let t = Instant::now();
                        engine.load_adapter("live", &paths[n % 8]).unwrap();
                        worst = worst.max(t.elapsed().as_secs_f64());
                        n += 1;
                        std::thread::sleep(std::time::Duration::from_millis(200));
                    }
                    println!("  {n} loads, worst {:.0} ms", worst * 1e3);
                });
            }
            engine.load_adapter("live", &paths[0]).unwrap();
            let mut gaps = vec![];
            for _ in 0..3 {
                let (tx, rx) = mpsc::channel();
                for n in 0..8 {
                    let tx = tx.clone();
                    let mut last: Option<Instant> = None;
                    engine
                        .submit(
                            GenerateRequest {
                                prompt: Prompt::Messages(prompt(n)),
                                adapter: Some("live".into()),
                                sampling: Sampling::greedy(96),
                            },
                            Box::new(move |e| {
                                if let Event::Delta(_) = e {
                                    let now = Instant::now();
                                    if let Some(l) = last {
                                        tx.send((now - l).as_secs_f64() * 1e3).ok();
                                    }
                                    last = Some(now);
                                }
                                ControlFlow::Continue(())
                            }),
                        )
                        .unwrap();
                }
                drop(tx);
                gaps.extend(rx.iter());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            gaps.sort_by(f64::total_cmp);
            println!(
                "swap {swap}: gap p50 {:.1} p99 {:.1} max {:.1} ms of {}",
                gaps[gaps.len() / 2],
                gaps[gaps.len() * 99 / 100],
                gaps[gaps.len() - 1],
                gaps.len()
            );
        });
    }
    println!("{:?}", engine.stats());
    std::fs::remove_dir_all(root).ok();
}
