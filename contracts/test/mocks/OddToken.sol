// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice An ERC-20 with the faults that tokens in the wild have. TEST ONLY.
contract OddToken is ERC20 {
    enum Fault {
        None,
        TakesFee,
        ReturnsFalse,
        ReturnsTwo,
        ReturnsNothing,
        ReturnsShort,
        ReturnsMegabyte,
        RevertsMegabyte,
        BurnsGas
    }

    Fault public fault;
    mapping(address account => bool) public blocked;
    uint256 private _need;

    constructor() ERC20("Odd", "ODD") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFault(Fault fault_) external {
        fault = fault_;
    }

    /// @notice From now on `transfer` needs to be given so much gas.
    function setNeed(uint256 need) external {
        _need = need;
    }

    function setBlocked(address account, bool blocked_) external {
        blocked[account] = blocked_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        require(gasleft() >= _need, "too little gas");
        return _faulty(_msgSender(), to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _spendAllowance(from, _msgSender(), amount);
        return _faulty(from, to, amount);
    }

    function _faulty(address from, address to, uint256 amount) private returns (bool) {
        require(!blocked[to] && !blocked[from], "blocked");
        if (fault == Fault.ReturnsFalse) return false;
        if (fault == Fault.RevertsMegabyte) {
            assembly ("memory-safe") {
                revert(mload(0x40), 100000)
            }
        }
        if (fault == Fault.BurnsGas) while (true) {}
        _transfer(from, to, amount);
        if (fault == Fault.TakesFee) _burn(to, 1);
        uint256 size = 32;
        uint256 word = 1;
        if (fault == Fault.ReturnsTwo) word = 2;
        if (fault == Fault.ReturnsNothing) size = 0;
        if (fault == Fault.ReturnsShort) (size, word) = (31, 0);
        if (fault == Fault.ReturnsMegabyte) (size, word) = (100_000, 0);
        assembly ("memory-safe") {
            // Far behind everything in memory, so that only this word is not 0.
            let answer := mload(0x40)
            mstore(answer, word)
            return(answer, size)
        }
    }
}
