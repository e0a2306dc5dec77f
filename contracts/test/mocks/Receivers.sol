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
    uint256 private _need;
    uint256 private _burn;

    receive() external payable {
        uint256 began = gasleft();
        require(began >= _need, "too little gas");
        while (began - gasleft() < _burn) {}
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

    /// @notice From now on takes money only with at least so much gas.
    function setNeed(uint256 need) external {
        _need = need;
    }

    /// @notice From now on burns so much gas when it is paid.
    function setBurn(uint256 burn) external {
        _burn = burn;
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
