// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Split} from "../../src/Split.sol";
import {Symbolic} from "./Symbolic.sol";

// forge-lint: disable-start(mixed-case-function) -- halmos finds proofs by their names, check_..

/// @notice The linear layer of the money, for all amounts at full width: gross and fee are arbitrary values of which
/// only what `ArithmeticProof` shows is assumed, that they do not fall, and that the fee grows no faster than the gross.
contract MoneyProof is Symbolic {
    /// @dev I3 and I4, one payment: it gives what was unpaid of the deposit, and its fee is the difference of those of the
    /// cumulative gross. So payments one after another add up to the deposit and to the fee of the last gross.
    function check_Shares_Conserve(uint96 deposit, uint96 price, uint16 feeBps, uint32 from, uint32 to) public pure {
        (uint96 paid, uint96 paidFee) = _paid(deposit, price, feeBps, from);
        uint96 gross = Split.grossOf(deposit, price, to);
        _assumeMonotone(feeBps, paid, paidFee, gross);
        Split.Shares memory s = Split.shares(deposit, price, feeBps, from, to);
        assert(uint256(s.net) + s.fee + s.refund == uint256(deposit) - paid);
        assert(s.refund == deposit - gross);
        assert(s.fee == Split.feeOf(gross, feeBps) - paidFee);
    }

    /// @dev I4, seconds from `to` to `clock` held: net + fee + refund + held = deposit - released.
    function check_SharesBefore_ConserveWithWhatIsHeld(
        uint96 deposit,
        uint96 price,
        uint16 feeBps,
        uint32 from,
        uint32 to,
        uint32 clock
    )
        public
        pure
    {
        (uint96 paid, uint96 paidFee) = _paid(deposit, price, feeBps, from);
        uint96 gross = Split.grossOf(deposit, price, to);
        uint96 whole = Split.grossOf(deposit, price, clock);
        _assumeMonotone(feeBps, paid, paidFee, gross);
        VM.assume(gross <= whole);
        Split.Shares memory s = Split.sharesBefore(deposit, price, feeBps, from, to, clock);
        assert(uint256(s.net) + s.fee + s.refund + (whole - gross) == uint256(deposit) - paid);
        assert(s.fee == Split.feeOf(gross, feeBps) - paidFee);
    }

    /// @dev I4, what was held is given away to the unit, wherever between the two sides the line is drawn.
    function check_SharesOfHeld_GiveWhatWasHeld(
        uint96 deposit,
        uint96 price,
        uint16 feeBps,
        uint32 from,
        uint32 to,
        uint32 clock
    )
        public
        pure
    {
        // As `Split.claimSecs` leaves it: something is settled when seconds are held.
        VM.assume(from != 0);
        (uint96 paid, uint96 paidFee) = _paid(deposit, price, feeBps, from);
        uint96 gross = Split.grossOf(deposit, price, to);
        uint96 whole = Split.grossOf(deposit, price, clock);
        _assumeMonotone(feeBps, paid, paidFee, gross);
        VM.assume(gross <= whole);
        Split.Shares memory s = Split.sharesOfHeld(deposit, price, feeBps, from, to, clock);
        assert(uint256(s.net) + s.fee + s.refund == whole - paid);
        assert(s.refund == whole - gross);
        assert(s.fee == Split.feeOf(gross, feeBps) - paidFee);
    }

    /// @dev A rental never pays more than its deposit, whatever the price and the seconds.
    function check_Gross_NeverAboveTheDeposit(uint96 deposit, uint96 price, uint32 secs) public pure {
        assert(Split.grossOf(deposit, price, secs) <= deposit);
    }

    /// @dev Never fewer seconds than are settled, never none.
    function check_BilledSecs_Bounds(uint96 deposit, uint96 price, uint32 settled, uint256 secs) public pure {
        VM.assume(price != 0);
        uint32 funded = Split.fundedSecs(deposit, price);
        uint32 billed = Split.billedSecs(deposit, price, settled, secs);
        assert(billed >= settled && billed >= 1);
        assert(billed <= secs || billed == settled || billed == 1);
        assert(billed <= funded || billed == settled || billed == 1);
    }

    /// @dev The holdback stays unpaid.
    function check_ReleasableSecs_LeaveTheHoldback(
        uint96 deposit,
        uint96 price,
        uint32 holdback,
        uint256 secs
    )
        public
        pure
    {
        VM.assume(price != 0);
        uint32 releasable = Split.releasableSecs(deposit, price, holdback, secs);
        assert(releasable == 0 || releasable <= secs - holdback);
        assert(releasable <= Split.fundedSecs(deposit, price));
    }

    /// @dev The renter can dispute at most the holdback, nothing settled, and not the first second.
    function check_ClaimSecs_Bounds(uint32 settled, uint32 billed, uint32 holdback) public pure {
        VM.assume(billed >= settled && billed >= 1);
        uint32 claim = Split.claimSecs(settled, billed, holdback);
        assert(claim <= holdback);
        assert(billed - claim >= settled && billed - claim >= 1);
    }

    /// @dev Gross and fee of `secs` paid seconds; none are worth nothing.
    function _paid(uint96 deposit, uint96 price, uint16 feeBps, uint32 secs) private pure returns (uint96, uint96) {
        if (secs == 0) return (0, 0);
        uint96 gross = Split.grossOf(deposit, price, secs);
        return (gross, Split.feeOf(gross, feeBps));
    }

    function _assumeMonotone(uint16 feeBps, uint96 earlier, uint96 earlierFee, uint96 later) private pure {
        uint96 laterFee = Split.feeOf(later, feeBps);
        // One after another: `&&` would branch.
        VM.assume(earlier <= later);
        VM.assume(earlierFee <= laterFee);
        unchecked {
            VM.assume(laterFee - earlierFee <= later - earlier);
        }
    }
}
// forge-lint: disable-end(mixed-case-function)
