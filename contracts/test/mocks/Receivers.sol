// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Terms} from "../../src/IEscrow.sol";

/// @notice A smart wallet that rents, and takes native coin in the way told. TEST ONLY.
contract Wallet {
    enum Manner {
        Takes,
        Refuses,
        BurnsGas,
        ReturnsMegabyte
    }

    Manner public manner;

    receive() external payable {
        if (manner == Manner.Refuses) revert("no");
        if (manner == Manner.BurnsGas) while (true) {}
        if (manner == Manner.ReturnsMegabyte) {
            assembly ("memory-safe") {
                revert(0, 3000)
            }
        }
    }

    function setManner(Manner manner_) external {
        manner = manner_;
    }

    function lock(IEscrow escrow, Terms calldata t, uint96 deposit) external {
        escrow.lock{value: deposit}(t, deposit);
    }

    function withdraw(IEscrow escrow, address to) external {
        escrow.withdraw(address(0), to, 0);
    }
}

/// @notice Forces native coin on an address that has no `receive`. TEST ONLY.
contract Forcer {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}
