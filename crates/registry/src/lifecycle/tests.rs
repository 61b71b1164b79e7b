use super::{release::*, version::*, *};

/// The documentation shows the tables that are in force.
#[test]
fn the_documented_tables_are_the_ones_in_force() {
    let page = include_str!("../../../../docs/RELEASES.md");
    let shown = page.split("<!-- transitions -->\n").nth(1).unwrap_or_default();
    assert_eq!(shown.trim(), transition_tables().trim(), "copy the right side to docs/RELEASES.md");
}

#[test]
fn taking_the_candidate_off_is_allowed_from_everywhere() {
    for state in ReleaseState::ALL {
        let (after, _) = next(state, 2, Command::RollBack).unwrap();
        assert!(after.has_ended(), "{state:?}");
        if state != ReleaseState::Promoted {
            assert!(next(state, 2, Command::Abort).unwrap().0.has_ended(), "{state:?}");
        }
    }
    for status in Status::ALL {
        let revoked = status_after(Some(status), VersionEvent::Revoke);
        assert_eq!(revoked.unwrap_or(status), Status::Revoked);
    }
}

#[test]
fn taking_off_asks_for_nothing_and_no_freeze_stops_it() {
    for command in [Command::RollBack, Command::Abort] {
        let Transition { needs, freezes, who, .. } = command.transition();
        assert!(needs.is_empty() && !freezes && who.len() == Role::ALL.len(), "{command:?}");
    }
    let revoke = VersionEvent::Revoke.transition();
    assert!(revoke.needs.is_empty() && !revoke.freezes);
}

#[test]
fn whatever_leads_a_candidate_to_users_stops_in_a_freeze() {
    for command in Command::ALL {
        let Transition { to, freezes, .. } = command.transition();
        let exposes =
            matches!(to, ReleaseState::Staging | ReleaseState::Ramping | ReleaseState::Promoted);
        assert_eq!(freezes, exposes, "{command:?}");
    }
}

#[test]
fn every_command_is_idempotent() {
    for command in Command::ALL {
        for state in ReleaseState::ALL {
            if let Some((after, step)) = next(state, 1, command) {
                assert_eq!(next(after, step, command), Some((after, step)), "{command:?}");
            }
        }
    }
}

#[test]
fn what_has_ended_does_not_go_on_and_steps_are_not_taken_back() {
    for state in ReleaseState::ALL.into_iter().filter(|state| state.has_ended()) {
        for command in Command::ALL {
            let after = next(state, 1, command).map(|(after, _)| after);
            assert!(after.is_none_or(|after| after == state), "{state:?} {command:?}");
        }
    }
    assert_eq!(next(ReleaseState::Ramping, 2, Command::Advance { to_step: 1 }), None);
    assert_eq!(next(ReleaseState::Paused, 1, Command::Advance { to_step: 2 }), None);
    let pause = Command::Pause { because: PauseReason::Manual };
    assert_eq!(next(ReleaseState::Promoted, 1, pause), None);
}

#[test]
fn a_revoked_version_stays_revoked() {
    for event in VersionEvent::ALL {
        assert_eq!(status_after(Some(Status::Revoked), event), None, "{event:?}");
    }
    assert_eq!(status_after(None, VersionEvent::Register), Some(Status::Registered));
    assert_eq!(status_after(Some(Status::Registered), VersionEvent::Pass), None);
}

#[test]
fn only_judgement_yields_to_an_override() {
    let start = Command::Start.transition();
    let yielding: Vec<&str> = start
        .needs
        .iter()
        .filter(|evidence| evidence.yields_to_override())
        .map(|evidence| evidence.as_str())
        .collect();
    assert_eq!(yielding, ["report", "current report", "approvals"]);
}
