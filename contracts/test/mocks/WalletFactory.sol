// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SigningWallet} from "./SigningWallet.sol";

/// @notice Deploys wallets at addresses that are known before (CREATE2). TEST ONLY.
contract WalletFactory {
    error Taken();

    function deploy(address owner, bytes32 salt) external returns (address wallet) {
        if (addressOf(owner, salt).code.length > 0) revert Taken();
        wallet = address(new SigningWallet{salt: salt}(owner));
    }

    function addressOf(address owner, bytes32 salt) public view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(SigningWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }
}
