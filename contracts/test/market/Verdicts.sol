// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Remembers how often each of the invariants I1 to I15 was checked, and the first fault of each.
abstract contract Verdicts {
    mapping(uint256 invariant => uint256) public checks;
    mapping(uint256 invariant => string) public faults;

    function _hold(uint256 invariant, bool holds, string memory fault) internal {
        ++checks[invariant];
        if (!holds && bytes(faults[invariant]).length == 0) faults[invariant] = fault;
    }
}
