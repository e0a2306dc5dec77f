// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HookToken, IHooked} from "./HookToken.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @notice A renter that calls back while it is paid, or while it pays. TEST ONLY.
/// @dev Refuses the money unless its call was turned away by the guard, so that "it was paid" says "it was turned away".
contract Reenterer is IHooked {
    error NotTurnedAway();

    address private immutable TARGET;
    bytes private _input;
    bool public armed;

    constructor(address target) {
        TARGET = target;
    }

    receive() external payable {
        _attack();
    }

    function onToken() external override {
        _attack();
    }

    /// @notice From now on calls back with `input`.
    function arm(bytes calldata input) external {
        _input = input;
        armed = true;
    }

    /// @notice Lets the escrow take `token`, and asks to be called at its transfers.
    function approve(HookToken token) external {
        token.approve(TARGET, type(uint256).max);
        token.listen();
    }

    function run(bytes calldata input, uint256 value) external {
        (bool success, bytes memory answer) = TARGET.call{value: value}(input);
        if (!success) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    function _attack() private {
        if (!armed) return;
        (bool success, bytes memory answer) = TARGET.call(_input);
        // forge-lint: disable-next-line(unsafe-typecast)
        bool away = bytes4(answer) == ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
        if (success || !away) revert NotTurnedAway();
    }
}
