// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Split} from "../../src/Split.sol";
import {Symbolic} from "./Symbolic.sol";

// forge-lint: disable-start(mixed-case-function) -- halmos finds proofs by their names, check_..

/// @notice What `MoneyProof` assumes of multiplication and division, on the same code and at full width. The solver,
/// cvc5, takes the words for bounded integers; one that works bit by bit does not come to an end.
contract ArithmeticProof is Symbolic {
    /// @dev I15.
    function check_Gross_Monotone(uint96 deposit, uint96 price, uint32 earlier, uint32 later) public pure {
        VM.assume(earlier <= later);
        assert(Split.grossOf(deposit, price, earlier) <= Split.grossOf(deposit, price, later));
    }

    /// @dev I3, the floor: nothing is cut off.
    function check_Fee_IsTheFloor(uint96 gross, uint16 feeBps) public pure {
        VM.assume(feeBps <= 1500);
        unchecked {
            assert(Split.feeOf(gross, feeBps) == uint256(gross) * feeBps / 10_000);
        }
    }

    /// @dev I3: with `most` = 1,500, the most that `lock` takes, at most 15 %.
    function check_Fee_AtMostThatOfTheHighestRate(uint96 gross, uint16 feeBps, uint16 most) public pure {
        VM.assume(feeBps <= most);
        VM.assume(most <= 1500);
        assert(Split.feeOf(gross, feeBps) <= Split.feeOf(gross, most));
    }

    function check_Fee_Monotone_NoFasterThanGross(uint96 earlier, uint96 later, uint16 feeBps) public pure {
        VM.assume(earlier <= later);
        VM.assume(feeBps <= 1500);
        uint96 fee = Split.feeOf(later, feeBps);
        uint96 earlierFee = Split.feeOf(earlier, feeBps);
        unchecked {
            assert(fee >= earlierFee);
            assert(fee - earlierFee <= later - earlier);
        }
    }

    /// @dev Funded seconds cost no more than the deposit, so a top-up does not change what they cost.
    function check_FundedSecs_AreCovered(uint96 deposit, uint96 price, uint32 secs) public pure {
        VM.assume(price != 0);
        VM.assume(secs <= Split.fundedSecs(deposit, price));
        unchecked {
            assert(Split.grossOf(deposit, price, secs) == uint256(secs) * price / 3600);
        }
    }
}
// forge-lint: disable-end(mixed-case-function)
