//! Whatever happened before, the way back is open.

use proptest::prelude::*;

use super::*;
use crate::{Harm, InUse, PauseReason, Protection, Role, Status};

/// Something that makes going on harder.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Freeze,
    FreezeAll,
    Approvals,
    ByHand,
    Signatures,
    Roles,
    Withdraw,
    Pause,
    Advance,
    Promote,
    AskToPromote,
    FailingReport,
}

fn obstacle() -> impl Strategy<Value = Obstacle> {
    use Obstacle::*;
    prop::sample::select(vec![
        Freeze,
        FreezeAll,
        Approvals,
        ByHand,
        Signatures,
        Roles,
        Withdraw,
        Pause,
        Advance,
        Promote,
        AskToPromote,
        FailingReport,
    ])
}

impl Obstacle {
    /// Puts it in the way; that some are refused after others is the point of them.
    fn place(self, it: &Fixture, release: &ReleaseRecord) {
        let (registry, change) = (&it.registry, Change::new("grace", "in the way", &it.clock));
        let revision = registry.release(&release.id).unwrap().revision;
        let rules = Protection::default();
        let protect = |rules| registry.protect(&task(), &rules, change).map(drop);
        let _refused = match self {
            Self::Freeze => registry.freeze(Some(&task()), None, None, change).map(drop),
            Self::FreezeAll => registry.freeze(None, None, None, change).map(drop),
            Self::Approvals => protect(Protection { approvals: 9, ..rules }),
            Self::ByHand => protect(Protection { promote_by_hand: true, ..rules }),
            Self::Signatures => protect(Protection { signers: vec![SIGNER.to_owned()], ..rules }),
            Self::Roles => registry
                .grant("grace", Role::ReleaseManager, true, change)
                .and_then(|_| registry.grant("otto", Role::OnCall, true, change))
                .map(drop),
            Self::Withdraw => registry.withdraw_data(&lineage().dataset.version, change).map(drop),
            Self::Pause => registry.pause(&release.id, PauseReason::Invalid, change).map(drop),
            Self::Advance => registry.advance(&release.id, revision, 1, change).map(drop),
            Self::Promote => registry.promote(&release.id, revision, change).map(drop),
            Self::AskToPromote => {
                registry.promote(&release.id, revision, change.by_program()).map(drop)
            }
            Self::FailingReport => {
                let failing = report(&release.generation.to_hex(), false);
                registry.attach_report(&release.candidate, &failing, change).map(drop)
            }
        };
    }
}

/// A public key nobody here signed with.
const SIGNER: &str = include_str!("../../../../tests/golden/signature/key.pub.pem");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn taking_off_is_never_blocked(
        obstacles in prop::collection::vec(obstacle(), 0..8), how in 0..3,
    ) {
        let it = Fixture::new();
        let (one, _) = it.promoted("one", Target::Teacher);
        let two = it.judged("two", true);
        let release = it.start(&two, Target::Adapter(one.clone()));
        for obstacle in obstacles {
            obstacle.place(&it, &release);
        }
        let was = it.registry.release(&release.id).unwrap();
        let is_tainted = it.registry.tainted(&one).unwrap().is_some();
        let change = Change::new("otto", "it misbehaves", &it.clock);
        match how {
            0 if was.state.is_open() => { it.registry.abort(&release.id, change).unwrap(); }
            0 => { it.registry.undo(&task(), None, change).unwrap(); }
            1 => { it.registry.roll_back(&release.id, change).unwrap(); }
            _ => {
                let revoked =
                    it.registry.revoke(&two, Harm::Safety, InUse::RollBack, change).unwrap();
                prop_assert_eq!(revoked.status, Status::Revoked);
            }
        }
        let after = it.registry.release(&release.id).unwrap();
        prop_assert!(after.state.has_ended(), "{:?}", after.state);
        // What is still serving goes on; what was promoted since leads back to what may serve.
        let back = if was.state.is_open() || !is_tainted {
            Target::Adapter(one)
        } else {
            Target::Teacher
        };
        prop_assert_eq!(it.stable(), Some(back));
        // What was decided stays decided.
        let going_on = it.registry.promote(&release.id, after.revision, change);
        prop_assert!(going_on.is_err());
        it.registry.verify_audit(None).unwrap();
    }
}
