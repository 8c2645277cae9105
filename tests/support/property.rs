//! Properties of a whole system: cases that are the same in every run, since each takes seconds.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Runs `check` on some cases, which panics where the property does not hold.
///
/// # Panics
/// With the least case that fails.
#[track_caller]
pub fn holds<S>(seed: &[u8; 32], cases: u32, strategy: &S, check: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: Debug,
{
    let config = Config {
        cases,
        max_shrink_iters: cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ended = runner.run(strategy, |case| {
        check(case);
        Ok(())
    });
    match ended {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            panic!("{reason}\nseed {seed:?}, the least case that fails: {case:#?}")
        }
        Err(error) => panic!("{error}, seed {seed:?}"),
    }
}
