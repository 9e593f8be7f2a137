//! Who may hold how many connections open: a client that is silent, slow or hostile takes only its own places.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections from one address at once: an agent has one, a person who looks another.
pub(super) const PER_ADDRESS: usize = 4;
/// Connections at once from all addresses that are no member's.
pub(super) const OF_STRANGERS: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<BTreeMap<IpAddr, Taken>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    by_members: usize,
    by_strangers: usize,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    address: IpAddr,
    is_member: bool,
}

impl Slots {
    /// Takes a place for a client; nothing where it has enough.
    pub(super) fn take(&self, address: IpAddr, is_member: bool) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let strangers: usize = taken.values().map(|taken| taken.by_strangers).sum();
        let own = taken.get(&address).map_or(0, |taken| taken.by_members + taken.by_strangers);
        if own >= PER_ADDRESS || !is_member && strangers >= OF_STRANGERS {
            return None;
        }
        let entry = taken.entry(address).or_default();
        *if is_member { &mut entry.by_members } else { &mut entry.by_strangers } += 1;
        Some(Slot { slots: self.clone(), address, is_member })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = taken.get_mut(&self.address) else { return };
        let held = if self.is_member { &mut entry.by_members } else { &mut entry.by_strangers };
        *held = held.saturating_sub(1);
        if entry.by_members + entry.by_strangers == 0 {
            taken.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn strangers_take_no_place_of_a_member() {
        let slots = Slots::default();
        let mut held: Vec<Slot> = (0..=255).filter_map(|last| slots.take(ip(last), false)).collect();
        assert_eq!(held.len(), OF_STRANGERS);
        held.extend((0..9).filter_map(|_| slots.take(ip(1), true)));
        assert_eq!(held.len(), OF_STRANGERS + PER_ADDRESS - 1, "one of its places is taken as a stranger");
        held.extend((0..9).filter_map(|_| slots.take(ip(200), true)));
        assert_eq!(held.len(), OF_STRANGERS + 2 * PER_ADDRESS - 1);
        drop(held);
        assert!(slots.0.lock().unwrap().is_empty(), "every place is given back");
        assert!(slots.take(ip(9), false).is_some());
    }
}
