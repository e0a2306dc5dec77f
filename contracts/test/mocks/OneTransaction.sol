// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice An operator that is a contract: several calls in one transaction. TEST ONLY.
contract OneTransaction {
    address private immutable TARGET;

    constructor(address target) {
        TARGET = target;
    }

    function run(bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool success,) = TARGET.call(calls[i]);
            require(success, "a call failed");
        }
    }
}
