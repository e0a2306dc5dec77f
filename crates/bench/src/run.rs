//! All scenarios, one after the other, on one server.

use crate::{
    BenchError, Booking, Cost, Fact, InMemory, Ledger, Measured, OneByOne, Plain, Plan, Queue,
    Report, Scenario, Server, Settlements, Tpcb, booking, half_load,
    machine::Setting,
    measure, quotes,
    report::Row,
    search::{Filled, Filler, growth, visible},
    start, streams,
};

/// Starts a server, measures every scenario that the plan names, and stops the server.
///
/// # Errors
/// [`BenchError`], if there is no server or no limit to measure against. What is wrong with one
/// scenario is told in its row; see [`Report::is_sound`].
pub async fn run(plan: &Plan) -> Result<Report, BenchError> {
    let server = Server::start(&plan.folder).await?;
    let setting = Setting::of(&server);
    if server.is_in_memory() {
        eprintln!("bench: {} lies in memory: commits are not durable", plan.folder.display());
    }
    let mut tpcb = Tpcb::load(&server, &plan.peer, plan.scale, plan.clients, plan.seed).await?;
    let mut course = Course { plan, tpcb: &mut tpcb, rows: Vec::new(), setting: &setting };
    let (clients, seed) = (plan.clients, plan.seed);
    course.take(Ledger::SINGLE, Ledger::single(&server, clients, seed)).await;
    course.take(Ledger::BATCHED, Ledger::batched(&server, clients, seed)).await;
    course.take_beside(Ledger::PLATFORM, Ledger::BATCHED, both(&server, clients, seed)).await;
    course.take(Queue::NAME, Queue::start(&server, clients)).await;
    course.take(Booking::SPREAD, Booking::spread(&server, clients, seed)).await;
    course.take(Booking::SHARED, Booking::shared(&server, clients, seed)).await;
    let raw = "signed before";
    course.take_beside(Settlements::NAME, raw, Settlements::beside_raw(&server)).await;
    course.take_beside(OneByOne::NAME, raw, OneByOne::beside_raw(&server)).await;
    let (mut facts, mut faults) = (Vec::new(), Vec::new());
    let wanted = "search".contains(&plan.only) || plan.only.contains("search");
    if wanted && let Err(error) = course.search(&server, &mut facts).await {
        faults.push(format!("search: {error}"));
    }
    let wanted = "quotes".contains(&plan.only) || plan.only.contains("quote");
    if wanted {
        eprintln!("bench: quotes beside indexed reads");
        match quotes::quotes(&server, plan, course.setting).await {
            Ok((row, found)) => {
                course.rows.push(row);
                facts.extend(found);
            }
            Err(error) => faults.push(format!("quotes: {error}")),
        }
    }
    if half_load::NAME.contains(&plan.only) {
        eprintln!("bench: bookings at half load");
        match half_load::half_load(&server, course.tpcb, plan).await {
            Ok(found) => facts.extend(found),
            Err(error) => faults.push(format!("{}: {error}", half_load::NAME)),
        }
    }
    let wanted = "streams".contains(&plan.only) || plan.only.contains("stream");
    if wanted {
        eprintln!("bench: idle event streams");
        match streams::idle(&server, plan).await {
            Ok(found) => facts.extend(found),
            Err(error) => faults.push(format!("streams: {error}")),
        }
    }
    let wanted = "start".contains(&plan.only) || plan.only.contains("start");
    if wanted {
        eprintln!("bench: starts, and a service that rests");
        match start::start(&server, plan).await {
            Ok(found) => facts.extend(found),
            Err(error) => faults.push(format!("start: {error}")),
        }
    }
    let rows = course.rows;
    drop(tpcb);
    server.stop().await?;
    if rows.is_empty() && facts.is_empty() && faults.is_empty() {
        let why = format!("no scenario's name contains {:?}", plan.only);
        return Err(BenchError::subject("measure")(why));
    }
    Ok(Report { rows, facts, faults })
}

/// The ledger with the platform in every transfer, and without.
async fn both(server: &Server, clients: u16, seed: u64) -> Result<(Ledger, Ledger), BenchError> {
    let hot = Ledger::platform(server, clients, seed).await?;
    Ok((hot, Ledger::batched(server, clients, seed.wrapping_add(1)).await?))
}

struct Course<'a> {
    plan: &'a Plan,
    tpcb: &'a mut Tpcb,
    setting: &'a Setting,
    rows: Vec<Row>,
}

impl Course<'_> {
    /// Everything about search: it needs a market of its own, which takes a while to make.
    async fn search(&mut self, server: &Server, facts: &mut Vec<Fact>) -> Result<(), BenchError> {
        let plan = self.plan;
        eprintln!("bench: searches in up to {} offers", plan.offers);
        facts.extend(growth(server, plan.offers, plan.seed).await?);
        let mut filler = Filler::start(server, plan.offers, plan.seed).await?;
        facts.extend(booking::growth(server, &mut filler, plan).await?);
        filler.up_to(plan.offers).await?;
        let filled = Filled::start(server, filler).await?;
        facts.extend(visible(server, &filled).await?);
        let pairs = (plan.pairs, plan.span);
        let mut found = Cost::search(&filled)?;
        let measured = measure(&mut found, &mut Cost::hello().await?, pairs.0, pairs.1).await;
        self.rows.push(Row::of(&measured, plan, Cost::HELLO, self.setting));
        let mut in_memory = InMemory::new(&filled);
        let measured =
            measure(&mut in_memory, &mut Plain::start(server).await?, pairs.0, pairs.1).await;
        self.rows.push(Row::of(&measured, plan, Plain::NAME, self.setting));
        Ok(())
    }

    /// Measures what `start` makes ready. Only then: what one scenario leaves must be there before
    /// the next counts what is stored.
    async fn take<S: Scenario>(
        &mut self,
        name: &'static str,
        start: impl Future<Output = Result<S, BenchError>>,
    ) {
        let plan = self.plan;
        if !name.contains(&plan.only) {
            return;
        }
        eprintln!("bench: {name}: {} pairs of slices of {:?}", plan.pairs, plan.span);
        let measured = match start.await {
            Ok(mut subject) => measure(&mut subject, self.tpcb, plan.pairs, plan.span).await,
            Err(error) => {
                let mut nothing = Measured::new(name);
                nothing.other_faults.push(format!("not begun: {error}"));
                nothing
            }
        };
        self.rows.push(Row::of(&measured, plan, self.tpcb.peer(), self.setting));
    }

    /// Measures one of ours against another of ours.
    async fn take_beside<S: Scenario, L: Scenario>(
        &mut self,
        name: &'static str,
        limit: &str,
        start: impl Future<Output = Result<(S, L), BenchError>>,
    ) {
        let plan = self.plan;
        if !name.contains(&plan.only) {
            return;
        }
        eprintln!(
            "bench: {name} beside {limit}: {} pairs of slices of {:?}",
            plan.pairs, plan.span
        );
        let measured = match start.await {
            Ok((mut subject, mut limit)) => {
                measure(&mut subject, &mut limit, plan.pairs, plan.span).await
            }
            Err(error) => {
                let mut nothing = Measured::new(name);
                nothing.other_faults.push(format!("not begun: {error}"));
                nothing
            }
        };
        self.rows.push(Row::of(&measured, plan, limit, self.setting));
    }
}
