//! Conditions as looks at a block's columns, 64 offers at once.

use crate::{
    block::{Block, Pattern},
    code::{self, Column},
    query::{Field, Set},
    row::flags,
};

/// A look at 64 offers at once. It may let too much through, never too little.
#[derive(Debug)]
pub(super) enum Mask {
    AtLeast(Column, &'static Pattern),
    AtMost(Column, &'static Pattern),
    Flags(u8),
    AnyOf(Column, Vec<&'static Pattern>),
}

impl Mask {
    pub(super) fn at_least(column: Column, least: u8) -> Self {
        Self::AtLeast(column, Pattern::of(least))
    }

    pub(super) fn at_most(column: Column, most: u8) -> Self {
        Self::AtMost(column, Pattern::of(most))
    }

    pub(super) fn rows(&self, block: &Block, rows: u64) -> u64 {
        match self {
            Self::AtLeast(column, least) => least.at_least(block.column(*column), rows),
            Self::AtMost(column, most) => most.at_most(block.column(*column), rows),
            Self::Flags(bits) => {
                let words = block.column(Column::Flags);
                let (mut left, mut rows) = (*bits, rows);
                while left != 0 {
                    let bit = usize::try_from(left.trailing_zeros()).unwrap_or(0);
                    rows &= words.get(bit).copied().unwrap_or(0);
                    left &= left.wrapping_sub(1);
                }
                rows
            }
            Self::AnyOf(column, values) => {
                let words = block.column(*column);
                values.iter().fold(0, |found, value| found | value.equal(words, rows))
            }
        }
    }

    /// What it takes: cheap looks come first, as they often leave nothing to look at.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Flags(_) => 0,
            Self::AtLeast(..) | Self::AtMost(..) => 2,
            Self::AnyOf(_, values) if values.len() <= 8 => 1,
            Self::AnyOf(..) => 3,
        }
    }
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Whether every number with the code of the first has the first at least.
fn begins(value: u64) -> bool {
    let code = |value: u64| u32::try_from(value).map(code::log);
    code(value).is_ok_and(|own| value.checked_sub(1).is_none_or(|less| code(less) != Ok(own)))
}

/// The masks of a condition, if its field has a column. True if whoever passes them satisfies it.
pub(super) fn masks_of(
    field: Field,
    set: &Set,
    least: u64,
    most: u64,
    masks: &mut Vec<Mask>,
) -> bool {
    let logarithmic = |column: Column, masks: &mut Vec<Mask>| {
        masks.push(Mask::at_least(column, code::log(clamp(least))));
        let bounded = most < u64::from(u32::MAX);
        if bounded {
            masks.push(Mask::at_most(column, code::log(clamp(most))));
        }
        matches!(set, Set::Span(..))
            && begins(least)
            && (!bounded || begins(most.saturating_add(1)))
    };
    let mut decided = false;
    match field {
        Field::CpuCores => decided = logarithmic(Column::CpuCores, masks),
        Field::Ram => decided = logarithmic(Column::Ram, masks),
        Field::Disk => decided = logarithmic(Column::Disk, masks),
        Field::DiskSpeed => decided = logarithmic(Column::DiskSpeed, masks),
        Field::Pcie => decided = logarithmic(Column::Pcie, masks),
        Field::Up => decided = logarithmic(Column::Up, masks),
        Field::Down => decided = logarithmic(Column::Down, masks),
        Field::Ports => decided = logarithmic(Column::Ports, masks),
        // who has no figure is last in this column, and is to be looked at
        Field::Ready => _ = logarithmic(Column::Ready, masks),
        Field::MinDuration => decided = logarithmic(Column::MinDuration, masks),
        Field::MaxDuration => decided = logarithmic(Column::MaxDuration, masks),
        Field::Notice => decided = logarithmic(Column::Notice, masks),
        Field::Cuda => {
            let version = |value: u64| code::cuda(u16::try_from(value).unwrap_or(u16::MAX));
            masks.push(Mask::at_least(Column::Cuda, version(least)));
            if most < u64::from(u16::MAX) {
                masks.push(Mask::at_most(Column::Cuda, version(most)));
            }
        }
        Field::Reliability => {
            let missing = |bps: u64| code::log(clamp(10_000_u64.saturating_sub(bps)));
            masks.push(Mask::at_most(Column::Unreliability, missing(least)));
            if most < 10_000 {
                masks.push(Mask::at_least(Column::Unreliability, missing(most)));
            }
        }
        Field::StaticIp if !set.holds(0) => {
            masks.push(Mask::Flags(flags::STATIC_IP));
            decided = set.holds(1);
        }
        Field::Datacenter if !set.holds(0) => {
            masks.push(Mask::Flags(flags::DATACENTER));
            decided = set.holds(1);
        }
        Field::Tier if !set.holds(0) && !set.holds(1) => {
            masks.push(Mask::Flags(flags::VERIFIED | flags::DATACENTER));
        }
        Field::Tier if !set.holds(0) => {
            masks.push(Mask::Flags(flags::VERIFIED));
            decided = set.holds(1) && set.holds(2);
        }
        Field::Verification if !set.holds(0) && !set.holds(2) => {
            masks.push(Mask::Flags(flags::VERIFIED));
        }
        Field::GpuCount
        | Field::Vram
        | Field::TotalVram
        | Field::Vendor
        | Field::TotalFlops
        | Field::Form
        | Field::ComputeCapability
        | Field::Price
        | Field::Hourly
        | Field::FlopsUsd
        | Field::Rented
        | Field::DiskPrice
        | Field::UpPrice
        | Field::DownPrice
        | Field::Until
        | Field::Tier
        | Field::Verification
        | Field::Datacenter
        | Field::Isolation
        | Field::StaticIp
        | Field::Templates
        | Field::Updated => {}
    }
    decided
}
