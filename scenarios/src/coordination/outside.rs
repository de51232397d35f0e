//! A store outside of the cluster, as a user of fencing tokens has it: it takes what comes with a token
//! that is not older than the newest it has seen. What is sent to it may be long on its way.

use std::collections::BTreeMap;

use quorate_sim::{SimTime, View};

use super::{Coordination, contenders};

/// The store, and what is on its way to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    coming: BTreeMap<(SimTime, u64), Use>,
    sent: u64,
    /// Of each name, the newest token and whose it is.
    newest: BTreeMap<String, (u64, u64)>,
}

#[derive(Clone, Debug)]
struct Use {
    node: usize,
    name: String,
    token: u64,
    lease: u64,
}

impl Outside {
    pub(super) fn send(&mut self, at: SimTime, node: usize, name: String, token: u64, lease: u64) {
        self.sent += 1;
        self.coming.insert((at, self.sent), Use { node, name, token, lease });
    }

    /// What has arrived by now is taken or refused.
    pub(super) fn arrive(
        &mut self,
        view: &View<'_, Coordination>,
        true_clocks: bool,
    ) -> Result<(), String> {
        while let Some(first) = self.coming.first_entry().filter(|one| one.key().0 <= view.now()) {
            let Use { node, name, token, lease } = first.remove();
            let (newest, whose) = self.newest.get(&name).copied().unwrap_or_default();
            if token == newest && whose != lease {
                return Err(format!("two leases, {whose} and {lease}, show {token} of {name}"));
            }
            if token >= newest {
                self.newest.insert(name, (token, lease));
                continue;
            }
            view.mark("old token refused");
            let now = view.monotonic(node);
            let mut here = contenders(view).filter(|(of, _)| *of == node);
            if true_clocks && here.any(|(_, one)| one.holds(now) == Some((&name, token))) {
                return Err(format!("{node} may work by {token} of {name}, {newest} was seen"));
            }
        }
        Ok(())
    }
}
