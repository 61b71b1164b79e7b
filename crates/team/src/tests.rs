use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{beside, breathe, each, each_chunk, each_item, map, map_items, work::Team};

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

#[test]
fn work_asks_again_when_its_time_is_over_and_only_beside_others() {
    breathe();
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let ask = move || {
        count.set(count.get() + 1);
        if count.get() < 3 { Duration::ZERO } else { Duration::from_hours(1) }
    };
    let done = beside(ask, || {
        each(1, |_| breathe());
        (0..100).for_each(|_| breathe());
        "done"
    });
    assert_eq!((done, asked.get()), ("done", 3));
    breathe();
    assert_eq!(asked.get(), 3);
}
