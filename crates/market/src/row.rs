//! A listing in 144 bytes, and what the bit masks say of it.

use uuid::Uuid;

use crate::{
    code::{self, COLUMNS, Column, UNKNOWN_HIGH, UNKNOWN_LOW},
    listing::{Isolation, Verification},
};

/// A number that nobody knows.
pub(crate) const UNKNOWN: u32 = u32::MAX;
/// A reliability that nobody knows.
pub(crate) const UNKNOWN_BPS: u16 = u16::MAX;
/// No end of availability.
pub(crate) const FOREVER: u32 = u32::MAX;

/// A listing, packed. Strings and lists are numbers of the catalog. What a search looks at comes first, so that a row
/// that is found is fetched with one or two lines of memory and not with three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    /// Bit `n - 1`: a rental may take `n` GPUs.
    pub(crate) chunks: u64,
    pub(crate) price: u32,
    pub(crate) until: u32,
    pub(crate) heard_at: u32,
    pub(crate) min_duration: u32,
    pub(crate) model: u16,
    pub(crate) region: u16,
    pub(crate) reliability: u16,
    pub(crate) cpu_cores: u16,
    pub(crate) ram_gb: u32,
    pub(crate) up_mbps: u32,
    pub(crate) ready_ms: u32,
    pub(crate) gpu_count: u8,
    pub(crate) gpus_free: u8,
    pub(crate) verification: Verification,
    /// [`flags`], as far as they are facts and not derived.
    pub(crate) flags: u8,
    pub(crate) max_duration: u32,
    pub(crate) provider: u32,
    pub(crate) disk_gb: u32,
    pub(crate) pcie_mb_s: u32,
    pub(crate) down_mbps: u32,
    pub(crate) disk_mb_s: u32,
    pub(crate) reserved: u16,
    /// 0 for unknown.
    pub(crate) cuda: u16,
    pub(crate) ports: u16,
    pub(crate) gpus_in_machine: u8,
    pub(crate) isolation: Isolation,
    pub(crate) disk_price: u32,
    pub(crate) up_price: u32,
    pub(crate) down_price: u32,
    pub(crate) machine: Uuid,
    pub(crate) version: u32,
    pub(crate) notice: u32,
    pub(crate) created_at: u32,
    pub(crate) updated_at: u32,
    pub(crate) starts: u16,
    /// The machine runs templates.
    pub(crate) templates: bool,
}

/// Bits of [`Column::Flags`].
pub(crate) mod flags {
    /// The machine was heard of lately, when it was last looked at.
    pub(crate) const ONLINE: u8 = 1;
    /// New rentals may begin.
    pub(crate) const OPEN: u8 = 2;
    pub(crate) const STATIC_IP: u8 = 4;
    pub(crate) const DATACENTER: u8 = 8;
    /// Derived: verified.
    pub(crate) const VERIFIED: u8 = 16;
    /// Derived: one GPU can be rented now.
    pub(crate) const ONE_NOW: u8 = 32;
    /// Derived: two can.
    pub(crate) const TWO_NOW: u8 = 64;
    /// Derived: eight can.
    pub(crate) const EIGHT_NOW: u8 = 128;
}

/// The lowest `count` bits: chunks of at most `count` GPUs.
pub(crate) fn up_to(count: u8) -> u64 {
    1_u64.checked_shl(u32::from(count)).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

impl Row {
    /// Where it stands among the offers of its model.
    pub(crate) const fn key(&self) -> (u32, Uuid) {
        (self.price, self.id)
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The chunks that can be rented now, if the machine is still online.
    pub(crate) fn chunks_now(&self) -> u64 {
        if self.has(flags::ONLINE) && self.has(flags::OPEN) {
            self.chunks & up_to(self.gpus_free)
        } else {
            0
        }
    }

    /// Its byte in each column; `discount` is the largest that it ever gives, in hundredths of a percent.
    pub(crate) fn codes(&self, discount: u16) -> [u8; COLUMNS] {
        let mut codes = [0; COLUMNS];
        let mut set = |column: Column, code: u8| {
            if let Some(place) = codes.get_mut(column.number()) {
                *place = code;
            }
        };
        let now = self.chunks_now();
        let bit = |holds: bool, flag: u8| if holds { flag } else { 0 };
        set(
            Column::Flags,
            self.flags
                | bit(self.verification == Verification::Verified, flags::VERIFIED)
                | bit(now & 1 != 0, flags::ONE_NOW)
                | bit(now & 2 != 0, flags::TWO_NOW)
                | bit(now & 128 != 0, flags::EIGHT_NOW),
        );
        set(Column::Largest, largest(now));
        set(Column::Region, code::low(u32::from(self.region)));
        set(Column::Provider, code::low(self.provider));
        set(Column::CpuCores, code::log(u32::from(self.cpu_cores)));
        set(Column::Ram, code::log(self.ram_gb));
        set(Column::Disk, code::log(self.disk_gb));
        set(Column::DiskSpeed, known_low(self.disk_mb_s));
        set(Column::Pcie, known_low(self.pcie_mb_s));
        set(Column::Up, known_low(self.up_mbps));
        set(Column::Down, known_low(self.down_mbps));
        set(Column::Ports, code::log(u32::from(self.ports)));
        set(Column::Cuda, if self.cuda == 0 { UNKNOWN_LOW } else { code::cuda(self.cuda) });
        let unreliable = match self.reliability {
            UNKNOWN_BPS => UNKNOWN_HIGH,
            bps => code::log(u32::from(10_000_u16.saturating_sub(bps))),
        };
        set(Column::Unreliability, unreliable);
        let ready = if self.ready_ms == UNKNOWN { UNKNOWN_HIGH } else { code::log(self.ready_ms) };
        set(Column::Ready, ready);
        set(Column::MinDuration, code::log(self.min_duration));
        set(Column::MaxDuration, code::log(self.max_duration));
        set(Column::Notice, code::log(self.notice));
        set(Column::Discount, code::discount(discount));
        codes
    }
}

/// The number of the highest bit, counted from 1; 0 for none.
pub(crate) fn largest(chunks: u64) -> u8 {
    chunks
        .checked_ilog2()
        .and_then(|bit| u8::try_from(bit).ok())
        .map_or(0, |bit| bit.saturating_add(1))
}

fn known_low(value: u32) -> u8 {
    if value == UNKNOWN { UNKNOWN_LOW } else { code::log(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_small_as_it_says() {
        assert_eq!(std::mem::size_of::<Row>(), 144);
        assert_eq!((up_to(0), up_to(1), up_to(8), up_to(64)), (0, 1, 255, u64::MAX));
        assert_eq!((largest(0), largest(1), largest(128), largest(u64::MAX)), (0, 1, 8, 64));
    }
}
