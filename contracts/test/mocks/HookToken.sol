// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

interface IHooked {
    function onToken() external;
}

/// @notice Calls whoever asked for it in the middle of each transfer from or to them, as ERC-777 does. TEST ONLY.
contract HookToken is ERC20 {
    mapping(address account => bool) private _listens;

    constructor() ERC20("Hook", "HOOK") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function listen() external {
        _listens[msg.sender] = true;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_listens[from]) IHooked(from).onToken();
        if (_listens[to]) IHooked(to).onToken();
    }
}
