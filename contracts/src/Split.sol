// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The money of a rental, as pure functions
/// @dev All amounts are base units of the rental's token, all roundings are down, and whatever rounding leaves stays
/// with the renter (gross) or the provider (fee).
/// Unchecked, because the bounds are plain: 96 bits * 3600, 32 bits * 96 bits and 96 bits * 16 bits fit 256 bits; gross
/// is at most the deposit and does not fall as seconds grow; fee and net do not fall as gross grows, and fee is at most
/// gross since `feeBps` is at most 10,000; billed seconds are never fewer than settled ones, nor 0.
/// test/Split.t.sol runs the same sums checked.
library Split {
    /// @notice What one payment gives to whom; `refund` is the part of the deposit beyond the last billed second.
    struct Shares {
        uint96 net;
        uint96 fee;
        uint96 refund;
    }

    /// @notice Whole seconds that `deposit` pays for, at most 2^32 - 1.
    /// @dev `pricePerHour` is not 0: `lock` refuses it.
    function fundedSecs(uint96 deposit, uint96 pricePerHour) internal pure returns (uint32) {
        unchecked {
            uint256 secs = uint256(deposit) * 3600 / pricePerHour;
            // forge-lint: disable-next-line(unsafe-typecast) -- bounded on the same line
            return secs > type(uint32).max ? type(uint32).max : uint32(secs);
        }
    }

    /// @notice The seconds billed when a rental ends after `secs`: no more than are funded, no fewer than are
    /// settled, at least 1.
    function billedSecs(
        uint96 deposit,
        uint96 pricePerHour,
        uint32 settledSecs,
        uint256 secs
    )
        internal
        pure
        returns (uint32 billed)
    {
        billed = _atMost(secs, fundedSecs(deposit, pricePerHour));
        if (billed < settledSecs) billed = settledSecs;
        if (billed == 0) billed = 1;
    }

    /// @notice The seconds that may be released after `secs`: of those that are funded, the last `holdback` wait.
    function releasableSecs(
        uint96 deposit,
        uint96 pricePerHour,
        uint32 holdback,
        uint256 secs
    )
        internal
        pure
        returns (uint32)
    {
        uint32 funded = _atMost(secs, fundedSecs(deposit, pricePerHour));
        unchecked {
            return funded > holdback ? funded - holdback : 0;
        }
    }

    /// @notice `secs` billed seconds less a credit: no fewer than are settled, at least 1.
    function creditedSecs(uint32 settledSecs, uint32 secs, uint32 credit) internal pure returns (uint32) {
        unchecked {
            uint32 least = settledSecs == 0 ? 1 : settledSecs;
            return secs - least > credit ? secs - credit : least;
        }
    }

    /// @notice How many of the last `billed` seconds the renter may still dispute: at most `holdback`, none that is
    /// settled, and not the first second.
    function claimSecs(uint32 settledSecs, uint32 billed, uint32 holdback) internal pure returns (uint32) {
        unchecked {
            uint32 unsettled = billed - (settledSecs == 0 ? 1 : settledSecs);
            return holdback < unsettled ? holdback : unsettled;
        }
    }

    /// @notice What is owed for the seconds after `fromSecs` up to `toSecs`, and what of the deposit is left then.
    /// @dev The difference of two cumulative values, so that paying in parts changes nothing.
    function shares(
        uint96 deposit,
        uint96 pricePerHour,
        uint16 feeBps,
        uint32 fromSecs,
        uint32 toSecs
    )
        internal
        pure
        returns (Shares memory due)
    {
        unchecked {
            uint96 gross = grossOf(deposit, pricePerHour, toSecs);
            uint96 fee = feeOf(gross, feeBps);
            due.refund = deposit - gross;
            if (fromSecs != 0) {
                uint96 paid = grossOf(deposit, pricePerHour, fromSecs);
                uint96 paidFee = feeOf(paid, feeBps);
                gross -= paid;
                fee -= paidFee;
            }
            due.fee = fee;
            due.net = gross - fee;
        }
    }

    /// @notice `shares` where the seconds from `toSecs` to `clockSecs` are held: the refund is what lies beyond those.
    function sharesBefore(
        uint96 deposit,
        uint96 pricePerHour,
        uint16 feeBps,
        uint32 fromSecs,
        uint32 toSecs,
        uint32 clockSecs
    )
        internal
        pure
        returns (Shares memory due)
    {
        due = shares(deposit, pricePerHour, feeBps, fromSecs, toSecs);
        unchecked {
            due.refund = deposit - grossOf(deposit, pricePerHour, clockSecs);
        }
    }

    /// @notice `shares` of held seconds, `fromSecs` to `clockSecs`, of which those beyond `toSecs` are the renter's.
    function sharesOfHeld(
        uint96 deposit,
        uint96 pricePerHour,
        uint16 feeBps,
        uint32 fromSecs,
        uint32 toSecs,
        uint32 clockSecs
    )
        internal
        pure
        returns (Shares memory due)
    {
        due = shares(deposit, pricePerHour, feeBps, fromSecs, toSecs);
        unchecked {
            due.refund -= deposit - grossOf(deposit, pricePerHour, clockSecs);
        }
    }

    /// @notice Gross of `secs` seconds, never above the deposit.
    function grossOf(uint96 deposit, uint96 pricePerHour, uint32 secs) internal pure returns (uint96) {
        unchecked {
            uint256 gross = uint256(secs) * pricePerHour / 3600;
            // forge-lint: disable-next-line(unsafe-typecast) -- bounded on the same line
            return gross > deposit ? deposit : uint96(gross);
        }
    }

    /// @notice The treasury's part of `gross`.
    function feeOf(uint96 gross, uint16 feeBps) internal pure returns (uint96) {
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast) -- not above gross: feeBps is at most 10,000
            return uint96(uint256(gross) * feeBps / 10_000);
        }
    }

    function _atMost(uint256 secs, uint32 bound) private pure returns (uint32) {
        // forge-lint: disable-next-line(unsafe-typecast) -- bounded on the same line
        return secs > bound ? bound : uint32(secs);
    }
}
