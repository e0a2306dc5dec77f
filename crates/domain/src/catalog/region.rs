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

/// The countries' codes of ISO 3166-1.
const COUNTRIES: &str = "\
    ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz \
    ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk fm fo fr \
    ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it \
    je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly \
    ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om \
    pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw \
    sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz \
    ua ug um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw ";

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

/// Whether this is a country's code, whether or not a machine may stand there, or one from `xa` to `xz`, which ISO 3166
/// leaves to users, and which others give to places in no country.
#[must_use]
pub fn is_country(code: &str) -> bool {
    let letters = code.len() == 2 && code.bytes().all(|b| b.is_ascii_lowercase());
    letters && (code.starts_with('x') || COUNTRIES.split(' ').any(|country| country == code))
}

/// The region with this code.
#[must_use]
pub fn region(code: &str) -> Option<&'static Region> {
    regions().iter().find(|region| region.code == code)
}
