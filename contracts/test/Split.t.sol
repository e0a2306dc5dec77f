// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Split} from "../src/Split.sol";
import {SplitBatch} from "./mocks/SplitBatch.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The money arithmetic against the rules of `IEscrow`, worked out here in checked 256-bit sums.
contract SplitTest is Test {
    uint16 private constant MAX_FEE_BPS = 1500;

    struct Case {
        uint96 deposit;
        uint96 pricePerHour;
        uint16 feeBps;
        uint32 first;
        uint32 second;
        uint32 last;
    }

    function testFuzz_Close_MatchesTheRules(Case memory c) public pure {
        _bound(c);
        uint32 billed = Split.billedSecs(c.deposit, c.pricePerHour, 0, c.last);
        uint256 gross = _gross(c, c.last);
        uint256 fee = gross * c.feeBps / 10_000;
        Split.Shares memory s = Split.shares(c.deposit, c.pricePerHour, c.feeBps, 0, billed);
        assertEq(s.fee, fee, "fee");
        assertEq(s.net, gross - fee, "net");
        assertEq(s.refund, c.deposit - gross, "refund");
    }

    /// @dev Paying in parts changes nothing, to the unit, and every part conserves the deposit.
    function testFuzz_SplitReleases_SameFee(Case memory c) public pure {
        _bound(c);
        uint32 funded = Split.fundedSecs(c.deposit, c.pricePerHour);
        uint32 a = uint32(bound(c.first, 0, funded));
        uint32 b = uint32(bound(c.second, a, funded));
        uint32 billed = Split.billedSecs(c.deposit, c.pricePerHour, b, c.last);
        assertGe(billed, b, "never below settled");
        Split.Shares memory one = Split.shares(c.deposit, c.pricePerHour, c.feeBps, 0, a);
        Split.Shares memory two = Split.shares(c.deposit, c.pricePerHour, c.feeBps, a, b);
        Split.Shares memory three = Split.shares(c.deposit, c.pricePerHour, c.feeBps, b, billed);
        Split.Shares memory whole = Split.shares(c.deposit, c.pricePerHour, c.feeBps, 0, billed);
        assertEq(uint256(one.net) + two.net + three.net, whole.net, "net");
        assertEq(uint256(one.fee) + two.fee + three.fee, whole.fee, "fee");
        assertEq(three.refund, whole.refund, "refund");
        assertEq(uint256(whole.net) + whole.fee + whole.refund, c.deposit, "conserved");
        assertLe(uint256(whole.fee) * 10_000, (uint256(whole.net) + whole.fee) * MAX_FEE_BPS, "at most 15 %");
    }

    /// @dev A top-up changes nothing of what was settled.
    function testFuzz_TopUp_KeepsWhatIsSettled(Case memory c, uint96 more) public pure {
        _bound(c);
        more = uint96(bound(more, 0, type(uint96).max - c.deposit));
        uint32 settled = uint32(bound(c.first, 0, Split.fundedSecs(c.deposit, c.pricePerHour)));
        assertEq(
            Split.grossOf(c.deposit, c.pricePerHour, settled),
            Split.grossOf(c.deposit + more, c.pricePerHour, settled),
            "gross of the settled seconds"
        );
    }

    function testFuzz_Gross_NeverFalls(Case memory c) public pure {
        _bound(c);
        uint32 later = c.first > c.second ? c.first : c.second;
        uint32 earlier = c.first > c.second ? c.second : c.first;
        assertGe(
            Split.grossOf(c.deposit, c.pricePerHour, later), Split.grossOf(c.deposit, c.pricePerHour, earlier), "gross"
        );
    }

    /// @dev One second less than funded does not use the deposit up; the next second is not paid for.
    function testFuzz_FundedSecs_IsTheLastPaidSecond(Case memory c) public pure {
        _bound(c);
        uint256 funded = Split.fundedSecs(c.deposit, c.pricePerHour);
        if (funded == type(uint32).max) return;
        assertLe(funded * c.pricePerHour, uint256(c.deposit) * 3600, "covered");
        assertGt((funded + 1) * c.pricePerHour, uint256(c.deposit) * 3600, "not covered");
    }

    function testFuzz_ReleasableSecs(Case memory c, uint32 holdback, uint256 secs) public pure {
        _bound(c);
        secs = bound(secs, 0, type(uint40).max);
        uint256 funded = Split.fundedSecs(c.deposit, c.pricePerHour);
        if (secs > funded) secs = funded;
        uint256 releasable = secs > holdback ? secs - holdback : 0;
        assertEq(Split.releasableSecs(c.deposit, c.pricePerHour, holdback, secs), releasable, "releasable");
    }

    /// @dev A credit takes off unsettled seconds, but for the first; a claim is of those that are left.
    function testFuzz_CreditAndClaim(Case memory c, uint32 credit, uint32 holdback) public pure {
        _bound(c);
        uint256 funded = Split.fundedSecs(c.deposit, c.pricePerHour);
        uint32 settled = uint32(bound(c.first, 0, funded));
        uint32 clock = Split.billedSecs(c.deposit, c.pricePerHour, settled, c.last);
        uint256 least = settled == 0 ? 1 : settled;
        uint32 billed = Split.creditedSecs(settled, clock, credit);
        assertEq(billed, clock > least + credit ? clock - credit : least, "credited");
        uint256 claim = Split.claimSecs(settled, billed, holdback);
        assertEq(claim, holdback < billed - least ? holdback : billed - least, "claim");
    }

    /// @dev Whichever seconds are held, and whoever gets them: what is paid before and after is what the billed time comes
    /// to, and the refunds are the rest.
    function testFuzz_Held_SplitsToTheUnit(Case memory c, uint32 settled, uint32 held, uint32 toRenter) public pure {
        _bound(c);
        uint32 clock = Split.billedSecs(c.deposit, c.pricePerHour, 0, c.last);
        held = uint32(bound(held, 0, clock - 1));
        toRenter = uint32(bound(toRenter, 0, held));
        settled = uint32(bound(settled, 0, clock - held));
        Split.Shares memory released = Split.shares(c.deposit, c.pricePerHour, c.feeBps, 0, settled);
        Split.Shares memory atEnd =
            Split.sharesBefore(c.deposit, c.pricePerHour, c.feeBps, settled, clock - held, clock);
        Split.Shares memory later =
            Split.sharesOfHeld(c.deposit, c.pricePerHour, c.feeBps, clock - held, clock - toRenter, clock);
        uint256 gross = _gross(c, clock - toRenter);
        uint256 fee = gross * c.feeBps / 10_000;
        assertEq(uint256(released.fee) + atEnd.fee + later.fee, fee, "fee");
        assertEq(uint256(released.net) + atEnd.net + later.net, gross - fee, "net");
        assertEq(uint256(atEnd.refund) + later.refund, c.deposit - gross, "refund");
    }

    function test_MinimumOneSecond() public pure {
        assertEq(Split.billedSecs(1e6, 3600, 0, 0), 1, "billed");
        assertEq(Split.shares(1e6, 3600, 1000, 0, 1).net, 1, "the fee of one unit rounds to 0");
        // A deposit that does not pay for a second is used up by the first.
        assertEq(Split.fundedSecs(5, 36_000), 0, "funded");
        assertEq(Split.billedSecs(5, 36_000, 0, 100), 1, "billed of dust");
        assertEq(Split.shares(5, 36_000, 1000, 0, 1).net, 5, "all of it");
    }

    function test_MaxUint96() public pure {
        uint96 max = type(uint96).max;
        assertEq(Split.fundedSecs(max, 1), type(uint32).max, "bounded to 32 bits");
        assertEq(Split.fundedSecs(max, max), 3600, "an hour");
        Split.Shares memory s = Split.shares(max, max, MAX_FEE_BPS, 0, 3600);
        assertEq(s.refund, 0, "all used");
        assertEq(s.fee, uint256(max) * 15 / 100, "fee");
        assertEq(uint256(s.net) + s.fee, max, "conserved");
        assertEq(Split.grossOf(max, max, type(uint32).max), max, "never above the deposit");
    }

    function testFuzz_SplitBatch_IsTheSameArithmetic(Case memory c) public {
        _bound(c);
        uint32 settled = uint32(bound(c.first, 0, Split.fundedSecs(c.deposit, c.pricePerHour)));
        SplitBatch.Input[] memory inputs = new SplitBatch.Input[](1);
        inputs[0] = SplitBatch.Input(c.deposit, c.pricePerHour, c.feeBps, settled, c.last);
        SplitBatch.Output memory y = new SplitBatch().run(inputs)[0];
        uint32 billed = Split.billedSecs(c.deposit, c.pricePerHour, settled, c.last);
        Split.Shares memory s = Split.shares(c.deposit, c.pricePerHour, c.feeBps, settled, billed);
        assertEq(abi.encode(y.billedSecs, y.net, y.fee, y.refund), abi.encode(billed, s.net, s.fee, s.refund));
        assertEq(y.fundedSecs, Split.fundedSecs(c.deposit, c.pricePerHour));
    }

    /// @dev Half of the cases have a price at which the deposit lasts for days, not for a blink or an age.
    function _bound(Case memory c) private pure {
        c.deposit = uint96(bound(c.deposit, 1, type(uint96).max));
        c.feeBps = uint16(bound(c.feeBps, 0, MAX_FEE_BPS));
        c.pricePerHour = c.first % 2 == 0
            ? uint96(bound(c.pricePerHour, 1, type(uint96).max))
            : uint96(
                bound(
                    c.pricePerHour,
                    c.deposit / 1000 + 1,
                    uint256(c.deposit) + 1 > type(uint96).max ? type(uint96).max : c.deposit + 1
                )
            );
        if (c.second % 2 == 0) c.last = uint32(bound(c.last, 0, 1_000_000));
    }

    function _gross(Case memory c, uint256 secs) private pure returns (uint256) {
        uint256 funded = uint256(c.deposit) * 3600 / c.pricePerHour;
        if (secs > funded) secs = funded;
        if (secs == 0) secs = 1;
        uint256 gross = secs * c.pricePerHour / 3600;
        return gross > c.deposit ? c.deposit : gross;
    }
}
