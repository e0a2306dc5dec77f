//! Regions: a country's code, or it and a place's.

use std::sync::LazyLock;

use crate::csv;
use crate::names::named_enum;

named_enum! {
    /// A part of the world.
    pub enum Continent ("continent") {
        /// Africa.
        Africa => "africa",
        /// Asia.
        Asia => "asia",
        /// Europe.
        Europe => "europe",
        /// North and Central America.
        NorthAmerica => "north-america",
        /// Australia and the Pacific.
        Oceania => "oceania",
        /// South America.
        SouthAmerica => "south-america",
    }
}

/// A place where machines stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// ISO 3166 country code and a code of the place, such as `de-fra`.
    pub code: String,
    /// The place.
    pub name: String,
    /// The country.
    pub country: String,
    /// The part of the world.
    pub continent: Continent,
}

static REGIONS: LazyLock<Vec<Region>> = LazyLock::new(|| {
    csv::read(include_str!("../../data/regions.csv"), |record| {
        Some(Region {
            code: record.maybe("code")?,
            name: record.maybe("name")?,
            country: record.maybe("country")?,
            continent: record.parse("continent")?,
        })
    })
});

/// All regions, by code.
#[must_use]
pub fn regions() -> &'static [Region] {
    &REGIONS
}

/// Whether a machine may stand there: a region of the table, or the country of one alone, for another place in it. In a
/// country that the table has no region of, none may.
#[must_use]
pub fn is_place(code: &str) -> bool {
    let country = |region: &Region| region.code.split('-').next() == Some(code);
    region(code).is_some() || regions().iter().any(country)
}

/// The region with this code.
#[must_use]
pub fn region(code: &str) -> Option<&'static Region> {
    regions().iter().find(|region| region.code == code)
}
