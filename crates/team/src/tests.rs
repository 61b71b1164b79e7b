use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Desk, each, each_chunk, each_item, map, map_items, threads, work::Team};

fn visits(team: &Team, count: usize) -> Vec<usize> {
    let visits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    assert!(team.run(count, &|index| {
        visits[index].fetch_add(1, Ordering::Relaxed);
    }));
    visits.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_index_is_visited_once_loop_after_loop() {
    for helpers in [0, 1, 3, 7] {
        let team = Team::of(helpers);
        for round in 0..2_000 {
            let count = round % 40;
            assert_eq!(visits(&team, count), vec![1; count], "{helpers} helpers, loop {round}");
        }
    }
}

#[test]
fn helpers_that_fell_asleep_take_part_again() {
    let team = Team::of(1);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(20));
        let who = Mutex::new(Vec::new());
        // Both must be inside before either may leave, so the helper has to wake up.
        let inside = AtomicUsize::new(0);
        assert!(team.run(2, &|_| {
            inside.fetch_add(1, Ordering::SeqCst);
            while inside.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            who.lock().unwrap().push(thread::current().id());
        }));
        let who = who.into_inner().unwrap();
        assert_ne!(who[0], who[1]);
    }
}

#[test]
fn a_caller_that_waits_long_for_a_helper_sleeps_and_wakes() {
    let team = Team::of(1);
    let (caller, done) = (thread::current().id(), AtomicUsize::new(0));
    let inside = AtomicUsize::new(0);
    assert!(team.run(2, &|_| {
        inside.fetch_add(1, Ordering::SeqCst);
        while inside.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        if thread::current().id() != caller {
            thread::sleep(Duration::from_millis(50));
        }
        done.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(done.into_inner(), 2);
}

#[test]
fn a_part_is_finished_by_others_while_its_owner_is_held_up() {
    for helpers in [1, 3] {
        let team = Team::of(helpers);
        let (count, done) = (40 * (helpers + 1), AtomicUsize::new(0));
        // With the first index come at most the nine others of a quarter of a part.
        let by_others = count - 10;
        let begun = Instant::now();
        assert!(team.run(count, &|index| {
            while index == 0 && done.load(Ordering::SeqCst) < by_others {
                assert!(begun.elapsed() < Duration::from_secs(30), "nobody takes the rest");
                thread::yield_now();
            }
            done.fetch_add(1, Ordering::SeqCst);
        }));
        assert_eq!(done.into_inner(), count);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_goes_on() {
    let team = Team::of(3);
    for at in 0..20 {
        let run = || {
            team.run(20, &|index| {
                assert_ne!(index, at, "the one that fails");
            })
        };
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        assert!(text.is_some_and(|text| text.contains("the one that fails")), "{text:?}");
        assert_eq!(visits(&team, 20), vec![1; 20]);
    }
}

#[test]
fn one_loop_runs_at_a_time_and_others_are_told() {
    let team = Team::of(1);
    assert!(team.run(1, &|_| assert!(!team.run(1, &|_| unreachable!("it is taken")))));
}

#[test]
fn loops_within_loops_and_beside_each_other_are_whole() {
    let sums = |seed: usize| {
        let inner = |outer: usize| map(30, |index| seed + outer * index).into_iter().sum::<usize>();
        map(30, inner)
    };
    let expected = |seed: usize| -> Vec<usize> {
        (0..30).map(|outer| (0..30).map(|index| seed + outer * index).sum()).collect()
    };
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || (0..50).for_each(|_| assert_eq!(sums(seed), expected(seed))));
        }
    });
}

#[test]
fn parts_are_lent_whole_and_results_keep_their_order() {
    let mut items = vec![1usize; 1000];
    each_item(&mut items, |index, item| *item += index);
    assert!(items.iter().enumerate().all(|(index, item)| *item == index + 1));
    each_chunk(&mut items, 7, |chunk, items| {
        assert_eq!(items[0], chunk * 7 + 1);
        items.fill(chunk);
    });
    assert!(items.iter().enumerate().all(|(index, item)| *item == index / 7));
    each_chunk(&mut [] as &mut [u8], 7, |_, _| unreachable!("nothing to visit"));
    assert_eq!(map_items(items, |item| item * 2)[999], 999 / 7 * 2);
}

#[test]
fn within_a_pool_of_one_thread_loops_stay_there() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let threads = pool.install(|| map(10, |_| thread::current().id()));
    assert!(threads.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Leaves a loop of `count` at a desk and says how often each index was visited.
fn left(desk: &Arc<Desk>, count: usize, is_attended: impl Fn() -> bool + 'static) -> Vec<usize> {
    let visits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    desk.beside(is_attended, || {
        each(count, |index| {
            visits[index].fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(100));
        });
    });
    visits.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn loops_left_at_a_desk_are_run_by_whoever_attends_it() {
    let (desk, over) = (Arc::new(Desk::default()), AtomicBool::new(false));
    assert!(!desk.attend(Duration::from_secs(1)), "there is nothing to do, nor to wait for");
    thread::scope(|scope| {
        let attending = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                rounds += usize::from(desk.attend(Duration::from_micros(300)));
            }
            rounds
        });
        for count in [0, 1, 2, 50 * threads()] {
            assert_eq!(left(&desk, count, || true), vec![1; count]);
        }
        over.store(true, Ordering::Relaxed);
        assert!(attending.join().unwrap() > 3, "fifty for each take longer than one round");
    });
}

#[test]
fn a_loop_that_nobody_comes_for_is_run_where_it_was_left() {
    let desk = Arc::new(Desk::default());
    assert_eq!(left(&desk, 9, || false), [1; 9]);
    // Some of it is run by one who comes once and never again.
    let (come, attended) = (Arc::new(AtomicBool::new(true)), Arc::clone(&desk));
    let comes = Arc::clone(&come);
    let once = thread::spawn(move || {
        while !attended.attend(Duration::from_micros(200)) {
            thread::yield_now();
        }
        comes.store(false, Ordering::Relaxed);
    });
    assert_eq!(left(&desk, 200, move || come.load(Ordering::Relaxed)), vec![1; 200]);
    once.join().unwrap();
    desk.close();
    assert_eq!(left(&desk, 9, || true), [1; 9]);
}

#[test]
fn a_panic_at_the_desk_reaches_whoever_left_the_loop() {
    let desk = Arc::new(Desk::default());
    thread::scope(|scope| {
        let attending = scope.spawn(|| {
            while !desk.attend(Duration::from_millis(1)) {
                thread::yield_now();
            }
        });
        let failing = || desk.beside(|| true, || each(5, |index| assert_ne!(index, 3, "it fails")));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(failing)).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("it fails"));
        attending.join().unwrap();
    });
    assert_eq!(left(&desk, 9, || false), [1; 9]);
    assert_eq!(map(3, |index| index), [0, 1, 2], "it is not beside the desk any more");
}
