//! The order of events in a test: what a stub or a fault-injecting wrapper does with each call.

use std::{
    collections::VecDeque,
    fmt, iter,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Chooses an action for each call: scripted actions first, then those of a standing rule.
///
/// `Call` is the input of the rule. A plan can be changed while calls are made.
pub struct Plan<Call: ?Sized, Action>(Mutex<State<Call, Action>>);

struct State<Call: ?Sized, Action> {
    script: VecDeque<Action>,
    rule: Box<dyn FnMut(&Call) -> Action + Send>,
}

impl<Call: ?Sized, Action: Clone + Send + 'static> Plan<Call, Action> {
    /// A plan that chooses `action` for every call.
    pub fn always(action: Action) -> Self {
        Self::by(move |_| action.clone())
    }

    /// A plan that asks `rule` for every call.
    pub fn by(rule: impl FnMut(&Call) -> Action + Send + 'static) -> Self {
        Self(Mutex::new(State { script: VecDeque::new(), rule: Box::new(rule) }))
    }

    /// Appends `actions` to the script: the next calls take one each.
    pub fn script(&self, actions: impl IntoIterator<Item = Action>) {
        self.state().script.extend(actions);
    }

    /// Appends the same action for `calls` calls to the script.
    pub fn next(&self, calls: usize, action: Action) {
        self.script(iter::repeat_n(action, calls));
    }

    /// Chooses `action` for every call from now on. The rest of the script is discarded.
    pub fn set_always(&self, action: Action) {
        self.set_rule(move |_| action.clone());
    }

    /// Asks `rule` for every call from now on. The rest of the script is discarded.
    pub fn set_rule(&self, rule: impl FnMut(&Call) -> Action + Send + 'static) {
        let mut state = self.state();
        state.script.clear();
        state.rule = Box::new(rule);
    }

    /// The action for `call`. A scripted action is used up.
    pub fn choose(&self, call: &Call) -> Action {
        let mut state = self.state();
        match state.script.pop_front() {
            Some(action) => action,
            None => (state.rule)(call),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<Call, Action>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Call: ?Sized, Action> fmt::Debug for Plan<Call, Action> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_comes_before_the_standing_rule() {
        let plan = Plan::by(|call: &u32| call * 10);
        plan.next(2, 7);
        plan.script([8, 9]);
        assert_eq!([1, 2, 3, 4, 5].map(|call| plan.choose(&call)), [7, 7, 8, 9, 50]);
    }

    #[test]
    fn a_new_rule_discards_the_rest_of_the_script() {
        let plan = Plan::always("first");
        plan.script(["second", "third"]);
        assert_eq!(plan.choose(&()), "second");
        plan.set_always("from now on");
        assert_eq!(plan.choose(&()), "from now on");
    }
}
