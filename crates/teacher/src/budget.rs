//! How much a teacher may cost in a day. Pure: time is passed in, nothing is read.

use understudy_ident::Timestamp;

use crate::{MicroUsd, TeacherError};

/// A daily limit (days in UTC) that is reserved against before spending and settled after.
///
/// Spent and reserved together never exceed the limit as long as no settlement is larger than its
/// reservation.
#[derive(Debug, Clone)]
pub struct Budget {
    per_day: MicroUsd,
    day: i64,
    spent: MicroUsd,
    reserved: MicroUsd,
}

/// Money set aside for one request; hand it back with [`Budget::settle`].
#[derive(Debug)]
#[must_use = "a reservation that is not settled stays reserved until the day ends"]
pub struct Reservation {
    amount: MicroUsd,
    day: i64,
}

impl Reservation {
    pub fn amount(&self) -> MicroUsd {
        self.amount
    }
}

impl Budget {
    pub fn new(per_day: MicroUsd) -> Self {
        Self { per_day, day: i64::MIN, spent: MicroUsd::ZERO, reserved: MicroUsd::ZERO }
    }

    /// The budget as it stands after `spent` today, so that a restart is not a fresh day.
    pub fn resume(per_day: MicroUsd, spent: MicroUsd, now: Timestamp) -> Self {
        Self { spent, day: day_of(now), ..Self::new(per_day) }
    }

    /// Sets `amount` aside, or says how much is left.
    pub fn reserve(
        &mut self,
        amount: MicroUsd,
        now: Timestamp,
    ) -> Result<Reservation, TeacherError> {
        let left = self.left(now);
        if amount > left {
            return Err(TeacherError::BudgetExhausted { asked: amount, left, limit: self.per_day });
        }
        self.reserved = self.reserved.plus(amount);
        Ok(Reservation { amount, day: self.day })
    }

    /// Replaces a reservation by what was really spent. A request is charged to the day it began.
    pub fn settle(&mut self, reservation: Reservation, spent: MicroUsd, now: Timestamp) {
        self.turn(now);
        if reservation.day == self.day {
            self.reserved = self.reserved.minus(reservation.amount);
            self.spent = self.spent.plus(spent);
        }
    }

    /// What may still be reserved today.
    pub fn left(&mut self, now: Timestamp) -> MicroUsd {
        self.turn(now);
        self.per_day.minus(self.spent).minus(self.reserved)
    }

    pub fn spent_today(&mut self, now: Timestamp) -> MicroUsd {
        self.turn(now);
        self.spent
    }

    pub fn reserved(&self) -> MicroUsd {
        self.reserved
    }

    pub fn per_day(&self) -> MicroUsd {
        self.per_day
    }

    /// Starts a new day. A clock set back does not refill the budget.
    fn turn(&mut self, now: Timestamp) {
        let today = day_of(now);
        if today > self.day {
            self.day = today;
            self.spent = MicroUsd::ZERO;
            self.reserved = MicroUsd::ZERO;
        }
    }
}

fn day_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(86_400)
}
